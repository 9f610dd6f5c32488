#include "piece_trie.h"

#include <algorithm>

namespace mmkd {
namespace {

constexpr std::size_t alphabet = 256;

/// Parent of the root: neither free nor any state.
constexpr PieceTrie::State no_parent = -2;

/// Share of taken cells from which on a region is not searched again.
constexpr double full = 0.95;

}  // namespace

PieceTrie::PieceTrie(std::span<const Token> pieces, std::size_t longest) {
  std::vector<const Token*> sorted;
  sorted.reserve(pieces.size());
  for (const auto& piece : pieces) {
    if (piece.text.size() <= longest) sorted.push_back(&piece);
  }
  std::ranges::sort(sorted, [](const Token* a, const Token* b) { return a->text < b->text; });
  cells_.resize(alphabet);
  cells_[root].parent = no_parent;
  build(sorted);
  cells_.shrink_to_fit();
}

PieceTrie::State PieceTrie::walk(std::string_view text) const {
  State state = root;
  for (std::size_t i = 0; i < text.size() && state != dead; ++i)
    state = next(state, static_cast<unsigned char>(text[i]));
  return state;
}

void PieceTrie::build(std::span<const Token* const> sorted) {
  struct Node {  // the pieces first … last-1 share the `depth` bytes that lead to `state`
    State state;
    std::size_t first, last, depth;
  };
  std::vector<Node> open = {{root, 0, sorted.size(), 0}};
  std::vector<unsigned char> labels;
  std::vector<std::size_t> starts;  // of each label's pieces
  while (!open.empty()) {
    auto node = open.back();
    open.pop_back();
    auto& cell = cells_[static_cast<std::size_t>(node.state)];
    if (node.first < node.last && sorted[node.first]->text.size() == node.depth) cell.id = sorted[node.first++]->id;
    labels.clear();
    starts.clear();
    for (auto i = node.first; i < node.last; ++i) {
      const auto label = static_cast<unsigned char>(sorted[i]->text[node.depth]);
      if (!labels.empty() && labels.back() == label) continue;
      labels.push_back(label);
      starts.push_back(i);
    }
    if (labels.empty()) continue;
    starts.push_back(node.last);
    const auto base = find_base(labels);
    cells_[static_cast<std::size_t>(node.state)].base = base;
    for (std::size_t i = 0; i < labels.size(); ++i) {
      const State child = base + labels[i];
      cells_[static_cast<std::size_t>(child)].parent = node.state;
      open.push_back({child, starts[i], starts[i + 1], node.depth + 1});
    }
  }
}

/// The lowest base at which the cells of all labels are free, from where the search is worth it. Above 0, so that no
/// child is the root.
std::int32_t PieceTrie::find_base(std::span<const unsigned char> labels) {
  const auto start = std::max<std::size_t>(search_from_, labels.front() + 1U);
  std::size_t taken = 0;
  for (auto position = start;; ++position) {
    const auto base = position - labels.front();
    if (cells_.size() < base + alphabet) cells_.resize(std::max(base + alphabet, cells_.size() + cells_.size() / 2));
    if (!is_free(position)) {
      ++taken;
      continue;
    }
    if (!std::ranges::all_of(labels, [&](unsigned char label) { return is_free(base + label); })) continue;
    if (static_cast<double>(taken) >= full * static_cast<double>(position - start + 1)) search_from_ = position;
    return static_cast<std::int32_t>(base);
  }
}

}  // namespace mmkd
