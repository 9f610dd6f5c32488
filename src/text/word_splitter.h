#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "wordpiece.h"

namespace mmkd {

/// One pass over raw text: cuts out literals, cleans, normalizes, splits into words and appends the ids of each word as
/// soon as it is complete. ASCII goes byte by byte through tables; only other code points are decoded.
class WordSplitter {
 public:
  /// Appends to `ids` until they are `limit` (the last word may exceed it).
  WordSplitter(const WordPiece& model, std::size_t limit, std::vector<std::int32_t>& ids)
      : model_(model), limit_(limit), ids_(ids) {}

  void run(std::string_view text);

 private:
  struct Mark {
    char32_t code_point;
    std::uint8_t combining_class;
  };

  // The stations of a code point, in this order. ASCII takes the short way.
  void ascii(unsigned char byte);
  void raw(char32_t code_point);
  void decompose(char32_t code_point, std::uint8_t flags);
  void order(char32_t decomposed);
  void lower(char32_t code_point);
  void split(char32_t normalized);

  void flush_marks();
  void end_word();     // at the end of a stretch of raw text
  void finish_word();  // of normalized text

  const WordPiece& model_;
  std::size_t limit_;
  std::vector<std::int32_t>& ids_;
  std::array<char, 4 * WordPiece::longest_word> word_{};  // UTF-8
  std::size_t bytes_ = 0;
  std::size_t code_points_ = 0;  // of the word; more than are stored once it is too long
  std::vector<Mark> marks_;      // those since the last starter, to be put into canonical order
};

}  // namespace mmkd
