#include "mmkd/config/load.h"

#include <algorithm>
#include <map>
#include <set>

#include "keys.h"
#include "mmkd/base/files.h"
#include "overrides.h"
#include "problems.h"
#include "suggest.h"
#include "validate.h"
#include "values.h"
#include "yaml_document.h"

namespace mmkd {
namespace config_detail {
namespace {

/// Walks the document against the list of keys.
class Interpreter {
 public:
  Interpreter(const std::vector<Key>& keys, Findings& findings) : findings_(findings) {
    for (const auto& key : keys) {
      keys_[key.path] = &key;
      if (key.shorthand != Shorthand::no) shorthands_[key.section()] = &key;
      std::string path = key.path;
      do {
        std::string section = parent_path(path);
        children_[section].insert(path.substr(section.empty() ? 0 : section.size() + 1));
        path = std::move(section);
      } while (!path.empty());
    }
  }

  void read_section(const std::string& path, const Node& node) {
    for (const auto& [name, place, value] : node.entries) {
      const std::string child = child_path(path, name);
      if (const auto key = keys_.find(child); key != keys_.end())
        read_key(*key->second, place, value);
      else if (children_.count(child) != 0)
        read_subsection(child, place, value);
      else
        findings_.add(place, child, unknown(path, name));
    }
  }

 private:
  void read_key(const Key& key, const Place& key_place, const Node& node) {
    if (std::holds_alternative<IgnoredTarget>(key.target)) {
      findings_.notes.push_back(fmt::format("{}: accepted and ignored", key.path));
      return;
    }
    // A value that was left out has no place of its own.
    findings_.places[key.path] = node.kind == Node::Kind::null ? key_place : node.place;
    const auto report = [this](const Place& place, const std::string& path, const std::string& message) {
      findings_.add(place, path, message);
    };
    if (key.path == "device" && has_device_index(node)) {
      findings_.notes.push_back(
          fmt::format("device: the index in \"{}\" is ignored; a rank takes the GPU of its local rank", node.text));
      Node cuda = node;
      cuda.text = "cuda";
      return assign(key, cuda, report);
    }
    assign(key, node, report);
  }

  static bool has_device_index(const Node& node) {
    const std::string_view text = node.text, prefix = "cuda:";
    return node.kind == Node::Kind::scalar && text.size() > prefix.size() && text.substr(0, prefix.size()) == prefix &&
           text.find_first_not_of("0123456789", prefix.size()) == std::string_view::npos;
  }

  void read_subsection(const std::string& path, const Place& key_place, const Node& node) {
    const bool empty = node.kind == Node::Kind::null || (node.kind == Node::Kind::map && node.entries.empty());
    if (!empty) findings_.places[path] = key_place;
    if (node.kind == Node::Kind::map) {
      read_section(path, node);
      reject_keys_beside_name(path, node);
    } else if (node.kind == Node::Kind::scalar && shorthands_.count(path) != 0) {
      read_key(*shorthands_.at(path), key_place, node);
    } else if (node.kind != Node::Kind::null) {
      const char* kinds = shorthands_.count(path) != 0 ? "a name or a map of keys" : "a map of keys";
      findings_.add(node.place, path, fmt::format("expected {}, found {}", kinds, node.describe()));
    }
  }

  /// A tower is named or sized, not both.
  void reject_keys_beside_name(const std::string& path, const Node& node) {
    const auto shorthand = shorthands_.find(path);
    if (shorthand == shorthands_.end() || shorthand->second->shorthand != Shorthand::alone) return;
    const Node* name = node.find(shorthand->second->name());
    if (!name || name->kind == Node::Kind::null) return;
    for (const auto& [other, place, value] : node.entries) {
      const std::string child = child_path(path, other);
      if (&value == name || keys_.count(child) == 0) continue;
      findings_.add(place, child,
                    fmt::format("has no meaning beside the name {}, whose folder says the size; remove one of the two",
                                name->describe()));
    }
  }

  std::string unknown(const std::string& section, const std::string& name) {
    const auto& children = children_.at(section);
    const std::vector<std::string_view> here(children.begin(), children.end());
    if (const auto meant = closest(name, here); !meant.empty()) findings_.suspect(child_path(section, meant));
    constexpr std::size_t kMost = 3;
    if (const auto elsewhere = same_name_elsewhere(name); !elsewhere.empty() && elsewhere.size() <= kMost)
      return fmt::format("unknown key; did you mean {}?", either(elsewhere));
    if (const auto hint = did_you_mean(name, here); !hint.empty()) return "unknown key" + hint;
    std::string known;
    for (const auto child : here) known += fmt::format("{}{}", known.empty() ? "" : ", ", child);
    return fmt::format("unknown key; expected one of {}", known);
  }

  /// Paths of the keys and sections of that name in other sections.
  std::vector<std::string> same_name_elsewhere(const std::string& name) const {
    std::vector<std::string> paths;
    for (const auto& [section, children] : children_)
      if (!section.empty() && children.count(name) != 0) paths.push_back(child_path(section, name));
    return paths;
  }

  Findings& findings_;
  std::map<std::string, const Key*> keys_;
  std::map<std::string, const Key*> shorthands_;           ///< section -> its shorthand key
  std::map<std::string, std::set<std::string>> children_;  ///< section -> names of keys and sections in it
};

}  // namespace
}  // namespace config_detail

namespace {
std::string problem_text(const std::string& name, const std::vector<std::string>& problems) {
  if (problems.size() == 1) return problems.front();
  std::string text = fmt::format("{} problems in the configuration {}:", problems.size(), name);
  for (const auto& problem : problems) text += "\n  " + problem;
  return text;
}
}  // namespace

ConfigError::ConfigError(const std::string& name, std::vector<std::string> problems)
    : UsageError("{}", problem_text(name, problems)), problems_(std::move(problems)) {}

LoadedConfig parse_config(std::string_view yaml, const std::string& name, std::span<const std::string> overrides) {
  using namespace config_detail;
  LoadedConfig loaded;
  loaded.config.source = name;
  const std::vector<Key> keys = bind_keys(loaded.config);
  Findings findings(name, {overrides.begin(), overrides.end()});

  Node root = parse_yaml(yaml, 0, findings.problems);
  const bool readable = findings.problems.empty() || root.kind != Node::Kind::null;
  if (root.kind == Node::Kind::scalar || root.kind == Node::Kind::list)
    findings.add(root.place, "", fmt::format("expected a map of sections, found {}", root.describe()));
  if (!readable || root.kind == Node::Kind::scalar || root.kind == Node::Kind::list)
    throw ConfigError(name, findings.lines());

  for (std::size_t i = 0; i < overrides.size(); ++i)
    apply_override(root, overrides[i], static_cast<int>(i) + 1, keys, findings);
  Interpreter(keys, findings).read_section("", root);
  settle(loaded.config, findings);
  validate(loaded.config, findings);
  if (!findings.problems.empty()) throw ConfigError(name, findings.lines());

  for (const auto& key : keys)
    if (!std::holds_alternative<IgnoredTarget>(key.target)) loaded.source[key.path] = findings.source(key.path);
  loaded.notes = std::move(findings.notes);
  return loaded;
}

LoadedConfig load_config(const std::filesystem::path& file, std::span<const std::string> overrides) {
  const std::string name = file.string();
  const auto limit = config_detail::YamlLimits{}.bytes;
  std::error_code error;
  if (!std::filesystem::is_regular_file(file, error))
    throw ConfigError(name, {fmt::format("{}: expected a YAML file, found {}", name,
                                         std::filesystem::exists(file, error) ? "no regular file" : "nothing there")});
  if (const auto size = std::filesystem::file_size(file, error); !error && size > limit)
    throw ConfigError(name, {fmt::format("{}: expected at most {} bytes, found {}", name, limit, size)});
  return parse_config(read_file(file, limit), name, overrides);
}

}  // namespace mmkd
