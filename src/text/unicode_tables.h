#pragma once
#include <cstddef>
#include <cstdint>
#include <string_view>

/// What BERT's normalizer and pre-tokenizer do to single code points, as measured on the reference. No Unicode library
/// agrees with all of it: the reference mixes the tables of several Unicode versions.
namespace mmkd::unicode {

/// Bits of Properties::flags.
enum Property : std::uint8_t {
  removed = 1,       ///< deleted when text is cleaned: controls, formats, private use, U+FFFD
  space = 2,         ///< becomes U+0020 when text is cleaned
  chinese = 4,       ///< stands alone where tokenize_chinese_chars is set
  accent = 8,        ///< deleted after decomposition where accents are stripped
  decomposes = 16,   ///< has a decomposition()
  lowers = 32,       ///< has a lower_case()
  separator = 64,    ///< ends a word (judged after normalization)
  punctuation = 128  ///< is a word of its own (judged after normalization)
};

struct Properties {
  std::uint8_t flags;            ///< of Property
  std::uint8_t combining_class;  ///< canonical; 0 = starter
};

/// `code_point` <= U+10FFFF.
Properties properties(char32_t code_point);

/// The full canonical decomposition of a code point that has Property::decomposes, else empty. Hangul syllables, which
/// decompose by arithmetic, are not among them.
std::u32string_view decomposition(char32_t code_point);

/// The lower-case form, without context, of a code point that has Property::lowers, else empty.
std::u32string_view lower_case(char32_t code_point);

}  // namespace mmkd::unicode
