#include "mmkd/config/sweep.h"

#include <algorithm>
#include <cctype>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "mmkd/base/files.h"
#include "problems.h"
#include "suggest.h"
#include "yaml_document.h"

namespace mmkd {
namespace {

using namespace config_detail;
using Json = nlohmann::ordered_json;

constexpr std::size_t kMostRuns = 10'000;

/// JSON is YAML: what load_config() takes as the value of an override.
Json json_of(const Node& node) {
  switch (node.kind) {
    case Node::Kind::null:
      return nullptr;
    case Node::Kind::scalar:
      return node.text;
    case Node::Kind::list: {
      Json list = Json::array();
      for (const auto& item : node.items) list.push_back(json_of(item));
      return list;
    }
    case Node::Kind::map: {
      Json map = Json::object();
      for (const auto& entry : node.entries) map[entry.key] = json_of(entry.value);
      return map;
    }
  }
  return nullptr;
}

/// A value as people read it.
std::string shown(const Node& node) {
  return node.kind == Node::Kind::scalar ? node.text
                                         : json_of(node).dump(-1, ' ', false, Json::error_handler_t::replace);
}

struct Setting {
  std::string key;
  Node value;
};
using Settings = std::vector<Setting>;

/// One combination of what varies.
struct Combination {
  std::string base;  ///< its name; empty with a single one
  fs::path base_file;
  Settings settings;  ///< later ones win
  std::vector<std::string> labels;
  std::optional<std::int64_t> seed;
};

struct SweepFile {
  std::vector<std::pair<std::string, fs::path>> bases;
  Settings set;
  std::vector<std::pair<std::string, std::vector<Node>>> grid;
  std::vector<std::pair<std::string, Settings>> list;  ///< label (may be empty), settings
  std::vector<Settings> exclude;
  std::vector<std::int64_t> seeds;
  std::string name, sweep;
  fs::path logs, artifacts;
};

/// Reads the document; problems go to `findings`.
class SweepReader {
 public:
  SweepReader(const fs::path& file, Findings& findings) : folder_(file.parent_path()), findings_(findings) {}

  SweepFile read(const Node& root) {
    SweepFile result;
    if (root.kind != Node::Kind::map) {
      findings_.add(root.place, "", fmt::format("expected a map of keys, found {}", root.describe()));
      return result;
    }
    for (const auto& entry : root.entries) read_entry(entry, result);
    if (result.bases.empty() && root.find("base") == nullptr)
      findings_.add(Place{}, "base", "is missing: name the configuration that all runs start from");
    return result;
  }

 private:
  void read_entry(const MapEntry& entry, SweepFile& result) {
    const auto& [key, place, value] = entry;
    if (key == "base") {
      read_bases(value, result);
    } else if (key == "set") {
      result.set = settings("set", value);
    } else if (key == "grid") {
      read_grid(value, result);
    } else if (key == "list") {
      read_list(value, result);
    } else if (key == "exclude") {
      for (const auto& item : items("exclude", value)) result.exclude.push_back(settings("exclude", item));
    } else if (key == "seeds") {
      read_seeds(value, result);
    } else if (key == "name") {
      result.name = text("name", value);
    } else if (key == "sweep") {
      result.sweep = text("sweep", value);
    } else if (key == "logs") {
      result.logs = text("logs", value);
    } else if (key == "artifacts") {
      result.artifacts = text("artifacts", value);
    } else {
      static const std::vector<std::string_view> kKnown{"base",  "set",  "grid",  "list", "exclude",
                                                        "seeds", "name", "sweep", "logs", "artifacts"};
      findings_.add(place, key, "unknown key of a sweep" + did_you_mean(key, kKnown));
    }
  }

  void read_bases(const Node& node, SweepFile& result) {
    if (node.kind == Node::Kind::scalar) {
      result.bases.emplace_back("", folder_ / node.text);
    } else if (node.kind == Node::Kind::map) {
      for (const auto& entry : node.entries)
        result.bases.emplace_back(entry.key, folder_ / text("base." + entry.key, entry.value));
    } else {
      findings_.add(node.place, "base", fmt::format("expected a file, or names with files, found {}", node.describe()));
    }
  }

  void read_grid(const Node& node, SweepFile& result) {
    for (const auto& [key, value] : settings("grid", node)) {
      const auto values = items("grid." + key, value);
      if (value.kind == Node::Kind::list && values.empty())
        findings_.add(value.place, "grid." + key, "expected at least one value, found none");
      result.grid.emplace_back(key, values);
    }
  }

  void read_list(const Node& node, SweepFile& result) {
    for (const auto& item : items("list", node)) {
      auto entry = settings("list", item);
      std::string label;
      std::erase_if(entry, [&](const Setting& setting) {
        if (setting.key != "name") return false;
        label = text("list.name", setting.value);
        return true;
      });
      result.list.emplace_back(label, std::move(entry));
    }
  }

  void read_seeds(const Node& node, SweepFile& result) {
    for (const auto& item : items("seeds", node)) {
      char* end = nullptr;
      const long long seed = std::strtoll(item.text.c_str(), &end, 10);
      if (item.kind != Node::Kind::scalar || item.text.empty() || *end != '\0' || seed < 0)
        findings_.add(item.place, "seeds", fmt::format("expected whole numbers from 0, found {}", item.describe()));
      result.seeds.push_back(seed);
    }
  }

  std::string text(const std::string& path, const Node& node) {
    if (node.kind == Node::Kind::scalar && !node.text.empty()) return node.text;
    findings_.add(node.place, path, fmt::format("expected a text, found {}", node.describe()));
    return "";
  }

  std::vector<Node> items(const std::string& path, const Node& node) {
    if (node.kind == Node::Kind::list) return node.items;
    findings_.add(node.place, path, fmt::format("expected a list, found {}", node.describe()));
    return {};
  }

  /// A map of dotted keys; nested maps that stand for sections are values of their sections.
  Settings settings(const std::string& path, const Node& node) {
    Settings result;
    if (node.kind != Node::Kind::map) {
      findings_.add(node.place, path, fmt::format("expected a map of keys, found {}", node.describe()));
      return result;
    }
    for (const auto& entry : node.entries) result.push_back({entry.key, entry.value});
    return result;
  }

  fs::path folder_;
  Findings& findings_;
};

/// Every combination of what the file varies, in the order of the file, the last grid key fastest.
std::vector<Combination> combinations(const SweepFile& file) {
  std::vector<Combination> all;
  for (const auto& [name, path] : file.bases) {
    all.push_back({.base = name, .base_file = path, .settings = {}, .labels = {}, .seed = {}});
    if (!name.empty()) all.back().labels.push_back(name);
  }
  const auto expand = [&](std::size_t count, const auto& vary) {
    std::vector<Combination> expanded;
    for (const auto& combination : all) {
      for (std::size_t i = 0; i < count; ++i) {
        expanded.push_back(combination);
        vary(expanded.back(), i);
      }
    }
    all = std::move(expanded);
  };
  if (!file.list.empty()) {
    expand(file.list.size(), [&](Combination& one, std::size_t i) {
      const auto& [label, settings] = file.list[i];
      one.settings.insert(one.settings.end(), settings.begin(), settings.end());
      if (!label.empty()) one.labels.push_back(label);
      for (const auto& setting : settings) {
        if (label.empty()) one.labels.push_back(shown(setting.value));
      }
    });
  }
  for (const auto& grid : file.grid) {
    expand(grid.second.size(), [&](Combination& one, std::size_t i) {
      one.settings.push_back({grid.first, grid.second[i]});
      one.labels.push_back(shown(grid.second[i]));
    });
    if (all.size() > kMostRuns) break;
  }
  if (!file.seeds.empty())
    expand(file.seeds.size(), [&](Combination& one, std::size_t i) { one.seed = file.seeds[i]; });
  return all;
}

/// The value that a combination gives a key; null: none of its own.
const Node* value_of(const Combination& combination, const std::string& key) {
  for (auto it = combination.settings.rbegin(); it != combination.settings.rend(); ++it) {
    if (it->key == key) return &it->value;
  }
  return nullptr;
}

bool is_excluded(const Combination& combination, const std::vector<Settings>& exclude) {
  return std::any_of(exclude.begin(), exclude.end(), [&](const Settings& pattern) {
    return !pattern.empty() && std::all_of(pattern.begin(), pattern.end(), [&](const Setting& setting) {
      if (setting.key == "base") return combination.base == shown(setting.value);
      const Node* value = value_of(combination, setting.key);
      return value != nullptr && shown(*value) == shown(setting.value);
    });
  });
}

/// A name that is fit for a folder.
std::string folder_name(const std::string& text) {
  std::string name;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const bool plain = std::isalnum(byte) != 0 || c == '.' || c == '_' || c == '-' || byte >= 0x80;
    if (plain) {
      name += c;
    } else if (!name.empty() && name.back() != '-') {
      name += '-';
    }
  }
  while (!name.empty() && name.back() == '-') name.pop_back();
  while (!name.empty() && name.front() == '.') name.erase(0, 1);
  return name;
}

/// "{fusion.type}-{base}" with the values of a combination.
std::string filled_in(const std::string& pattern, const Combination& combination, const std::string& file) {
  std::string name;
  for (std::size_t at = 0; at < pattern.size();) {
    const auto open = pattern.find('{', at);
    if (open == std::string::npos) return name + pattern.substr(at);
    const auto close = pattern.find('}', open);
    name += pattern.substr(at, open - at);
    const std::string key = close == std::string::npos ? "" : pattern.substr(open + 1, close - open - 1);
    const Node* value = value_of(combination, key);
    if (key == "base") {
      name += combination.base;
    } else if (key == "name") {
      for (std::size_t i = 0; i < combination.labels.size(); ++i) name += (i > 0 ? "-" : "") + combination.labels[i];
    } else if (value != nullptr) {
      name += shown(*value);
    } else {
      std::string known = "base, name";
      for (const auto& setting : combination.settings) known += ", " + setting.key;
      throw ConfigError(
          file, {fmt::format("{}: name: \"{{{}}}\" is no key that varies in this sweep; expected one of {}", file, key,
                             known)});
    }
    at = close + 1;
  }
  return name;
}

std::string override_text(const std::string& key, const Node& value) {
  return key + "=" + json_of(value).dump(-1, ' ', false, Json::error_handler_t::replace);
}

SweepRun make_run(const Sweep& sweep, const SweepFile& file, const Combination& combination,
                  std::span<const std::string> overrides) {
  SweepRun run;
  run.name = folder_name(filled_in(file.name.empty() ? "{name}" : file.name, combination, sweep.file.string()));
  if (run.name.empty()) run.name = "run";
  std::vector<std::string> assignments;
  for (const auto& [key, value] : file.set) assignments.push_back(override_text(key, value));
  if (!combination.base.empty()) run.settings.emplace_back("base", combination.base);
  for (const auto& [key, value] : combination.settings) {
    assignments.push_back(override_text(key, value));
    run.settings.emplace_back(key, shown(value));
  }
  assignments.insert(assignments.end(), overrides.begin(), overrides.end());
  if (combination.seed) {
    run.name += fmt::format("/seed-{}", *combination.seed);
    assignments.push_back(fmt::format("training.seed={}", *combination.seed));
    run.settings.emplace_back("training.seed", std::to_string(*combination.seed));
  }
  struct Folder {
    std::string key, instead;
  };
  for (const auto& [key, instead] : {Folder{"logging.log_dir", "logs"}, Folder{"artifacts.root", "artifacts"}}) {
    const auto sets_it = [start = key + "="](const std::string& text) { return text.starts_with(start); };
    if (std::any_of(assignments.begin(), assignments.end(), sets_it))
      throw ConfigError(sweep.file.string(),
                        {fmt::format("{}: run {}: {}: in a sweep the key `{}` of the sweep's file says it",
                                     sweep.file.string(), run.name, key, instead)});
  }
  try {
    run.loaded = load_config(combination.base_file, assignments);
  } catch (const ConfigError& e) {
    auto problems = e.problems();
    for (auto& problem : problems) problem = fmt::format("{}: run {}: {}", sweep.file.string(), run.name, problem);
    throw ConfigError(sweep.file.string(), problems);
  }
  auto& config = run.loaded.config;
  if (!config.training.seeds.empty())
    throw ConfigError(sweep.file.string(),
                      {fmt::format("{}: run {}: training.seeds: in a sweep the key `seeds` of the sweep's file says it",
                                   sweep.file.string(), run.name)});
  config.logging.log_dir = sweep.logs / run.name;
  // As of a single run with its log folder beside `logs`.
  config.artifacts.root =
      file.artifacts.empty() ? sweep.logs.parent_path().parent_path() / "artifacts" : file.artifacts;
  return run;
}

}  // namespace

Sweep load_sweep(const fs::path& file, std::span<const std::string> overrides) {
  const std::string name = file.string();
  if (!fs::is_regular_file(file)) throw ConfigError(name, {fmt::format("{}: expected a YAML file, found none", name)});
  Findings findings(name, {});
  const Node root = parse_yaml(read_file(file, YamlLimits{}.bytes), 0, findings.problems);
  const auto read = findings.problems.empty() ? SweepReader(file, findings).read(root) : SweepFile{};
  if (!findings.problems.empty()) throw ConfigError(name, findings.lines());

  Sweep sweep;
  sweep.file = file;
  sweep.name = folder_name(read.sweep.empty() ? file.stem().string() : read.sweep);
  sweep.logs = (read.logs.empty() ? fs::path("logs") / sweep.name : read.logs).lexically_normal();
  std::map<std::string, std::size_t> seen;
  for (const auto& combination : combinations(read)) {
    if (is_excluded(combination, read.exclude)) continue;
    if (sweep.runs.size() == kMostRuns)
      throw ConfigError(name, {fmt::format("{}: expected at most {} runs, found more", name, kMostRuns)});
    sweep.runs.push_back(make_run(sweep, read, combination, overrides));
    if (++seen[sweep.runs.back().name] > 1)
      throw ConfigError(name, {fmt::format("{}: two runs are called {}; put what tells them apart into `name`", name,
                                           sweep.runs.back().name)});
  }
  if (sweep.runs.empty()) throw ConfigError(name, {fmt::format("{}: every run is excluded", name)});
  return sweep;
}

}  // namespace mmkd
