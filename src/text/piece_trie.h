#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "vocabulary.h"

namespace mmkd {

/// All pieces of a vocabulary as a double-array trie over bytes (Aoe, "An efficient digital search algorithm by using a
/// double-array structure", 1989): the longest match takes one array access a byte.
class PieceTrie {
 public:
  using State = std::int32_t;
  static constexpr State root = 0;
  static constexpr State dead = -1;

  struct Match {
    std::int32_t id = -1;
    std::size_t size = 0;  ///< bytes; 0: no piece matches
  };

  /// Texts must be distinct and not empty; those of more than `longest` bytes are left out.
  PieceTrie(std::span<const Token> pieces, std::size_t longest);

  /// The state after reading `text` from the root; `dead` if no piece starts so.
  State walk(std::string_view text) const;

  /// The longest prefix of `text` that completes a piece when read from `state`.
  Match longest_match(State state, std::string_view text) const {
    Match best;
    for (std::size_t i = 0; i < text.size() && state != dead; ++i) {
      state = next(state, static_cast<unsigned char>(text[i]));
      if (state != dead && cells_[static_cast<std::size_t>(state)].id >= 0) {
        best = {cells_[static_cast<std::size_t>(state)].id, i + 1};
      }
    }
    return best;
  }

 private:
  /// The child of state s by byte c is cell t = base(s) + c, if parent(t) is s.
  struct Cell {
    std::int32_t base = 0;
    State parent = dead;
    std::int32_t id = -1;  ///< of the piece that ends here
  };

  State next(State state, unsigned char byte) const {
    const auto child = static_cast<std::size_t>(cells_[static_cast<std::size_t>(state)].base) + byte;
    return cells_[child].parent == state ? static_cast<State>(child) : dead;
  }

  void build(std::span<const Token* const> sorted);
  std::int32_t find_base(std::span<const unsigned char> labels);
  bool is_free(std::size_t cell) const { return cells_[cell].parent == dead; }

  std::vector<Cell> cells_;      // 256 more than the highest base, so that base + byte stays inside
  std::size_t search_from_ = 1;  // find_base: the cells before are nearly all taken
};

}  // namespace mmkd
