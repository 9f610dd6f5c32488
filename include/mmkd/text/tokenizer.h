#pragma once
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace mmkd {

/// How text becomes words before WordPiece (BertNormalizer + BertPreTokenizer of Hugging Face tokenizers).
struct WordPieceSettings {
  bool do_lower_case = true;
  bool strip_accents = true;  ///< resolve "as do_lower_case" before constructing
  bool tokenize_chinese_chars = true;
  bool operator==(const WordPieceSettings&) const = default;
};

/// A vocab.txt or tokenizer.json: its name tells which, its bytes are the content.
struct TokenizerText {
  std::string name;
  std::string bytes;
};
/// Throws Error for an unreadable file, or one far larger than any vocabulary.
TokenizerText read_tokenizer_text(const std::filesystem::path& file);

/// BERT's WordPiece, id for id what Hugging Face tokenizers gives.
class WordPieceTokenizer {
 public:
  /// From tokenizer.json (any name ending in .json; model.type WordPiece) or vocab.txt (one token a line, split at
  /// U+000A only). The settings are the caller's: see read_tokenizer_settings() for what the file says itself. Throws
  /// Error for an unreadable or malformed file, a vocabulary without [UNK] [CLS] [SEP] [PAD], duplicates, or another
  /// kind of tokenizer (BPE, Unigram: the message says what is supported). [MASK] may be missing.
  static WordPieceTokenizer from_file(const std::filesystem::path& file, const WordPieceSettings& settings);
  static WordPieceTokenizer from_text(const TokenizerText& text, const WordPieceSettings& settings);
  WordPieceTokenizer(WordPieceTokenizer&&) noexcept;
  WordPieceTokenizer& operator=(WordPieceTokenizer&&) noexcept;
  ~WordPieceTokenizer();

  /// [CLS] … [SEP], at most `max_length` ids (>= 2) with both special ones. Invalid UTF-8 bytes count as U+FFFD, which
  /// is removed. Thread-safe.
  std::vector<std::int32_t> encode(std::string_view utf8, std::int64_t max_length) const;

  std::int64_t vocab_size() const;
  std::int32_t pad_id() const;
  const WordPieceSettings& settings() const;
  /// SHA-256 over vocabulary and settings: equal digests encode equally.
  const std::string& digest() const;

 private:
  struct Impl;
  explicit WordPieceTokenizer(std::unique_ptr<const Impl> impl);
  std::unique_ptr<const Impl> impl_;
};

}  // namespace mmkd
