#include "overrides.h"

#include <algorithm>

#include "mmkd/base/error.h"

namespace mmkd::config_detail {
namespace {

std::vector<std::string> split_path(std::string_view path) {
  std::vector<std::string> parts;
  for (std::size_t begin = 0;;) {
    const auto dot = path.find('.', begin);
    parts.emplace_back(path.substr(begin, dot - begin));
    if (dot == std::string_view::npos) return parts;
    begin = dot + 1;
  }
}

const Key* shorthand_of(const std::string& section, const std::vector<Key>& keys) {
  for (const auto& key : keys)
    if (key.shorthand != Shorthand::no && key.section() == section) return &key;
  return nullptr;
}

/// Makes `node`, which stands at `path`, a map that the next part can be put into; false if it is a list or text.
bool open_as_map(Node& node, const std::string& path, const std::vector<Key>& keys, const Place& place) {
  if (node.kind == Node::Kind::map) return true;
  if (node.kind == Node::Kind::list) return false;
  Node map;
  map.kind = Node::Kind::map;
  map.place = node.kind == Node::Kind::null ? place : node.place;
  if (node.kind == Node::Kind::scalar) {
    const Key* shorthand = shorthand_of(path, keys);
    if (!shorthand) return false;
    map.entries.push_back({shorthand->name(), node.place, node});
  }
  node = std::move(map);
  return true;
}

Node& child(Node& map, const std::string& key, const Place& place) {
  if (Node* found = map.find(key)) return *found;
  Node node;
  node.place = place;
  map.entries.push_back({key, place, std::move(node)});
  return map.entries.back().value;
}

}  // namespace

void apply_override(Node& root, std::string_view assignment, int origin, const std::vector<Key>& keys,
                    Findings& findings) {
  const Place place{origin, 0, 0};
  constexpr std::size_t kDeepest = 16;
  const auto equals = assignment.find('=');
  const auto parts = split_path(assignment.substr(0, equals));
  const bool well_formed = equals != std::string_view::npos && parts.size() <= kDeepest &&
                           std::none_of(parts.begin(), parts.end(), [](const auto& part) { return part.empty(); });
  if (!well_formed) return findings.add(place, "", "expected section.key=value");

  const auto before = findings.problems.size();
  Node value = parse_yaml(assignment.substr(equals + 1), origin, findings.problems);
  if (findings.problems.size() > before) return;
  if (value.kind == Node::Kind::null) value.place = place;

  Node* at = &root;
  std::string path;
  for (const auto& part : parts) {
    if (!open_as_map(*at, path, keys, place))
      return findings.add(place, path, fmt::format("is {}; give a new value for all of it", at->describe()));
    at = &child(*at, part, place);
    path = child_path(path, part);
  }
  *at = std::move(value);
}

}  // namespace mmkd::config_detail
