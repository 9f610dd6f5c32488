#pragma once
#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "mmkd/text/tokenizer.h"
#include "piece_trie.h"
#include "vocabulary.h"

namespace mmkd {

/// A vocabulary under given settings, laid out for encoding. Immutable, so that threads may share it.
class WordPiece {
 public:
  /// A word of more code points is one [UNK].
  static constexpr std::size_t longest_word = 100;

  enum class AsciiAction : std::uint8_t { append, remove, end_word, punctuation };

  WordPiece(const Vocabulary& vocabulary, const WordPieceSettings& settings);

  /// As WordPieceTokenizer::encode.
  std::vector<std::int32_t> encode(std::string_view utf8, std::int64_t max_length) const;

  /// Appends the pieces of one normalized word, or [UNK].
  void append_pieces(std::string_view word, std::vector<std::int32_t>& ids) const;

  /// The longest literal that `text` starts with, or null.
  const Token* literal_at(std::string_view text) const;
  bool may_start_literal(unsigned char byte) const { return starts_literal_[byte]; }

  AsciiAction ascii_action(unsigned char byte) const { return ascii_actions_[byte]; }
  char ascii_appended(unsigned char byte) const { return ascii_appended_[byte]; }

  const WordPieceSettings& settings() const { return settings_; }
  std::int32_t unk_id() const { return unk_id_; }

 private:
  void prepare_ascii();

  WordPieceSettings settings_;
  PieceTrie trie_;
  PieceTrie::State continuation_;  // after "##"
  std::vector<Token> literals_;    // longest first
  std::int32_t unk_id_, cls_id_, sep_id_;
  std::array<bool, 256> starts_literal_{};
  std::array<AsciiAction, 128> ascii_actions_{};
  std::array<char, 128> ascii_appended_{};
};

}  // namespace mmkd
