#include "word_splitter.h"

#include <algorithm>

#include "unicode_tables.h"
#include "utf8.h"

namespace mmkd {
namespace {

/// Hangul syllables decompose by arithmetic (The Unicode Standard, section 3.12).
namespace hangul {
constexpr char32_t first = 0xAC00, last = 0xD7A3, leading = 0x1100, vowel = 0x1161, trailing = 0x11A7;
constexpr char32_t vowels = 21, trailings = 28;
}  // namespace hangul

}  // namespace

void WordSplitter::run(std::string_view text) {
  while (!text.empty() && ids_.size() < limit_) {
    const auto byte = static_cast<unsigned char>(text.front());
    if (model_.may_start_literal(byte)) {
      if (const auto* literal = model_.literal_at(text)) {
        end_word();
        ids_.push_back(literal->id);
        text.remove_prefix(literal->text.size());
        continue;
      }
    }
    if (byte < 0x80) {
      ascii(byte);
      text.remove_prefix(1);
    } else {
      const auto next = utf8::decode(text);
      if (next.value != utf8::invalid) raw(next.value);
      text.remove_prefix(next.size);
    }
  }
  end_word();
}

void WordSplitter::ascii(unsigned char byte) {
  using Action = WordPiece::AsciiAction;
  const auto action = model_.ascii_action(byte);
  if (action == Action::remove) return;
  if (action == Action::end_word) return end_word();
  if (!marks_.empty()) flush_marks();
  if (action == Action::punctuation) end_word();
  if (code_points_ < WordPiece::longest_word) word_[bytes_++] = model_.ascii_appended(byte);
  ++code_points_;
  if (action == Action::punctuation) end_word();
}

void WordSplitter::raw(char32_t code_point) {
  const auto flags = unicode::properties(code_point).flags;
  if (flags & unicode::removed) return;
  if (flags & unicode::space) return end_word();
  const bool alone = (flags & unicode::chinese) && model_.settings().tokenize_chinese_chars;
  if (alone) end_word();
  if (model_.settings().strip_accents) {
    decompose(code_point, flags);
  } else {
    lower(code_point);
  }
  if (alone) end_word();
}

void WordSplitter::decompose(char32_t code_point, std::uint8_t flags) {
  if (flags & unicode::decomposes) {
    for (const auto part : unicode::decomposition(code_point)) order(part);
  } else if (code_point >= hangul::first && code_point <= hangul::last) {
    const auto index = code_point - hangul::first;
    order(hangul::leading + index / hangul::trailings / hangul::vowels);
    order(hangul::vowel + index / hangul::trailings % hangul::vowels);
    if (index % hangul::trailings != 0) order(hangul::trailing + index % hangul::trailings);
  } else {
    order(code_point);
  }
}

/// Accents vanish after the marks were ordered, so an accent that is a starter still ends a run of marks.
void WordSplitter::order(char32_t decomposed) {
  const auto [flags, combining_class] = unicode::properties(decomposed);
  if (combining_class == 0 && !marks_.empty()) flush_marks();
  if (flags & unicode::accent) return;
  if (combining_class == 0) {
    lower(decomposed);
  } else {
    marks_.push_back({decomposed, combining_class});
  }
}

void WordSplitter::flush_marks() {
  std::ranges::stable_sort(marks_, {}, &Mark::combining_class);
  for (const auto& mark : marks_) lower(mark.code_point);
  marks_.clear();
}

void WordSplitter::lower(char32_t code_point) {
  if (model_.settings().do_lower_case && (unicode::properties(code_point).flags & unicode::lowers)) {
    for (const auto part : unicode::lower_case(code_point)) split(part);
  } else {
    split(code_point);
  }
}

void WordSplitter::split(char32_t normalized) {
  const auto flags = unicode::properties(normalized).flags;
  if (flags & unicode::separator) return finish_word();
  if (flags & unicode::punctuation) finish_word();
  if (code_points_ < WordPiece::longest_word) bytes_ += utf8::encode(normalized, &word_[bytes_]);
  ++code_points_;
  if (flags & unicode::punctuation) finish_word();
}

void WordSplitter::end_word() {
  if (!marks_.empty()) flush_marks();
  finish_word();
}

void WordSplitter::finish_word() {
  if (code_points_ > WordPiece::longest_word) {
    ids_.push_back(model_.unk_id());
  } else if (code_points_ > 0) {
    model_.append_pieces({word_.data(), bytes_}, ids_);
  }
  bytes_ = code_points_ = 0;
}

}  // namespace mmkd
