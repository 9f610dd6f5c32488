#pragma once
#include <string>
#include <string_view>
#include <vector>

// A YAML text as a bounded tree that keeps the place of every value. Built on yaml-cpp's events rather than its nodes,
// so that depth, size and aliases are checked while reading and a duplicate key is seen.
namespace mmkd::config_detail {

/// Where a value stands: line and column count from 1; 0 where unknown.
struct Place {
  int origin = 0;  ///< 0: the file; n: the n-th override
  int line = 0, column = 0;
};

struct Problem {
  Place place;
  std::string text;
};

struct MapEntry;

struct Node {
  enum class Kind { null, scalar, list, map };
  Kind kind = Kind::null;
  std::string text;               ///< scalar
  std::vector<Node> items;        ///< list
  std::vector<MapEntry> entries;  ///< map, in the order of the text
  Place place;

  /// Null if there is no such key, or this is no map.
  const Node* find(std::string_view key) const;
  Node* find(std::string_view key);
  /// For messages: `"text"`, `a list`, `a map`, `nothing`.
  std::string describe() const;
};

struct MapEntry {
  std::string key;
  Place place;
  Node value;
};

/// The longest prefix of at most `bytes` that cuts no character.
std::string utf8_prefix(std::string_view text, std::size_t bytes);

struct YamlLimits {
  std::size_t bytes = 1 << 20;
  int depth = 32;
  std::size_t nodes = 10'000;  ///< aliases expanded; every 100 bytes of a text count as one more
};

/// Never throws on account of the text: what is wrong with it is appended to `problems` (at most one element for text
/// that is no YAML or exceeds a limit, one per duplicate or unusable key otherwise) and the tree holds what was usable.
/// Merge keys (`<<: *anchor`) are expanded. Empty text gives a null node.
Node parse_yaml(std::string_view text, int origin, std::vector<Problem>& problems, const YamlLimits& limits = {});

}  // namespace mmkd::config_detail
