#include "mmkd/config/slurm_profile.h"

#include <charconv>
#include <functional>
#include <optional>

#include "mmkd/base/files.h"
#include "mmkd/config/load.h"
#include "problems.h"
#include "suggest.h"
#include "yaml_document.h"

namespace mmkd {
namespace {

using namespace config_detail;

constexpr const char* kStages[] = {"pack", "teacher", "cache", "joint", "student", "test"};

class ProfileReader {
 public:
  explicit ProfileReader(Findings& findings) : findings_(findings) {}

  SlurmProfile read(const Node& root) {
    SlurmProfile profile;
    if (!is_map("", root)) return profile;
    const Node* stages = nullptr;
    for (const auto& entry : root.entries) {
      const auto& [key, place, value] = entry;
      if (key == "stages") {
        stages = &value;
      } else if (key == "launcher") {
        profile.launcher = text(key, value);
        if (profile.launcher != "mpirun" && profile.launcher != "srun")
          findings_.add(value.place, key, fmt::format("expected \"mpirun\" or \"srun\", found {}", value.describe()));
      } else if (key == "setup") {
        profile.setup = text(key, value);
      } else if (key == "script") {
        profile.script = text(key, value);
      } else if (key == "max_requeues") {
        profile.max_requeues = number(key, value, 0);
      } else if (key == "signal_before_end") {
        profile.signal_before_end = number(key, value, 0);
      } else if (key == "environment") {
        if (!is_map(key, value)) continue;
        for (const auto& variable : value.entries)
          profile.environment[variable.key] = text(key + "." + variable.key, variable.value);
      } else if (!read_resource(key, key, value, profile.resources)) {
        unknown(place, key, key);
      }
    }
    if (stages != nullptr) read_stages(*stages, profile);
    return profile;
  }

 private:
  void read_stages(const Node& node, SlurmProfile& profile) {
    if (!is_map("stages", node)) return;
    for (const auto& [stage, place, value] : node.entries) {
      const std::string path = "stages." + stage;
      if (std::find(std::begin(kStages), std::end(kStages), stage) == std::end(kStages)) {
        findings_.add(place, path, "no such stage; expected pack, teacher, cache, joint, student or test");
        continue;
      }
      auto& resources = profile.stages.emplace(stage, profile.resources).first->second;
      if (!is_map(path, value)) continue;
      for (const auto& entry : value.entries) {
        const std::string key = path + "." + entry.key;
        if (!read_resource(key, entry.key, entry.value, resources)) unknown(entry.place, key, entry.key);
      }
    }
  }

  bool read_resource(const std::string& path, const std::string& key, const Node& value, SlurmResources& resources) {
    const std::map<std::string_view, std::int64_t*> numbers{{"nodes", &resources.nodes},
                                                            {"ranks_per_node", &resources.ranks_per_node},
                                                            {"gpus_per_node", &resources.gpus_per_node},
                                                            {"cpus_per_rank", &resources.cpus_per_rank}};
    const std::map<std::string_view, std::string*> texts{
        {"time", &resources.time}, {"memory", &resources.memory},   {"partition", &resources.partition},
        {"qos", &resources.qos},   {"account", &resources.account}, {"constraint", &resources.constraint}};
    if (const auto found = numbers.find(key); found != numbers.end()) {
      *found->second = number(path, value, key == "gpus_per_node" ? 0 : 1);
    } else if (const auto named = texts.find(key); named != texts.end()) {
      *named->second = text(path, value);
    } else if (key == "extra") {
      if (value.kind != Node::Kind::list)
        findings_.add(value.place, path, fmt::format("expected a list, found {}", value.describe()));
      resources.extra.clear();
      for (const auto& item : value.items) resources.extra.push_back(text(path, item));
    } else {
      return false;
    }
    return true;
  }

  void unknown(const Place& place, const std::string& path, const std::string& key) {
    static const std::vector<std::string_view> kKnown{
        "nodes",     "ranks_per_node", "gpus_per_node", "cpus_per_rank", "time",   "memory",
        "partition", "account",        "qos",           "constraint",    "extra",  "launcher",
        "setup",     "environment",    "max_requeues",  "script",        "stages", "signal_before_end"};
    findings_.add(place, path, "unknown key" + did_you_mean(key, kKnown));
  }

  bool is_map(const std::string& path, const Node& node) {
    if (node.kind == Node::Kind::map || node.kind == Node::Kind::null) return true;
    findings_.add(node.place, path, fmt::format("expected a map of keys, found {}", node.describe()));
    return false;
  }

  std::string text(const std::string& path, const Node& node) {
    if (node.kind == Node::Kind::scalar || node.kind == Node::Kind::null) return node.text;
    findings_.add(node.place, path, fmt::format("expected a text, found {}", node.describe()));
    return "";
  }

  std::int64_t number(const std::string& path, const Node& node, std::int64_t least) {
    std::int64_t value = 0;
    const auto* end = node.text.data() + node.text.size();
    const auto [rest, failed] = std::from_chars(node.text.data(), end, value);
    if (node.kind != Node::Kind::scalar || failed != std::errc() || rest != end || value < least) {
      findings_.add(node.place, path,
                    fmt::format("expected a whole number of at least {}, found {}", least, node.describe()));
    }
    return value;
  }

  Findings& findings_;
};

}  // namespace

const SlurmResources& SlurmProfile::of(const std::string& stage) const {
  const auto found = stages.find(stage);
  return found == stages.end() ? resources : found->second;
}

SlurmProfile load_slurm_profile(const fs::path& file) {
  const std::string name = file.string();
  if (!fs::is_regular_file(file)) throw ConfigError(name, {fmt::format("{}: expected a YAML file, found none", name)});
  Findings findings(name, {});
  const Node root = parse_yaml(read_file(file, YamlLimits{}.bytes), 0, findings.problems);
  auto profile = findings.problems.empty() ? ProfileReader(findings).read(root) : SlurmProfile{};
  if (!findings.problems.empty()) throw ConfigError(name, findings.lines());
  return profile;
}

}  // namespace mmkd
