#include "shared_stages.h"

#include <algorithm>
#include <functional>
#include <optional>

#include "read_results.h"

namespace mmkd {
namespace {

using Json = nlohmann::ordered_json;

struct StageUse {
  std::string stage, key;
  double seconds = 0;  ///< as the run saw it
  bool reused = false;
  std::optional<double> built;  ///< seconds that building it took, here or elsewhere
};

std::vector<StageUse> stages_of(const Json& result) {
  std::vector<StageUse> stages;
  const auto* seconds = find_value(result, {"timing", "seconds"});
  if (seconds == nullptr || !seconds->is_object()) return stages;
  for (const auto& [stage, value] : seconds->items()) {
    StageUse use{.stage = stage, .key = {}, .seconds = value.is_number() ? value.get<double>() : 0};
    const auto* reused = find_value(result, {"timing", "reused", stage});
    const auto* key = find_value(result, {"keys", stage});
    if (key != nullptr && key->is_string()) use.key = key->get<std::string>();
    use.reused = reused != nullptr && *reused == true;
    use.built = find_number(result, {"timing", "built_seconds", stage});
    // Older runs noted only what they built themselves.
    if (!use.built && !use.reused) use.built = use.seconds;
    stages.push_back(std::move(use));
  }
  return stages;
}

void for_each_stage(const std::vector<FinishedRun>& runs, const std::function<void(const StageUse& stage)>& use) {
  for (const auto& run : runs) {
    for (const auto& result : run.results) {
      for (const auto& stage : stages_of(result)) use(stage);
    }
  }
}

}  // namespace

std::map<std::string, double> built_seconds(const std::vector<FinishedRun>& runs) {
  std::map<std::string, double> built;
  for_each_stage(runs, [&](const StageUse& stage) {
    if (stage.built && !stage.key.empty()) built[stage.key] = std::max(built[stage.key], *stage.built);
  });
  return built;
}

Json stage_times(const FinishedRun& run, const std::map<std::string, double>& built) {
  Json seeds = Json::array();
  for (const auto& result : run.results) {
    Json stages = Json::array();
    for (const auto& stage : stages_of(result)) {
      Json entry{{"stage", stage.stage}, {"seconds", stage.seconds}, {"reused", stage.reused}};
      if (stage.reused && built.contains(stage.key)) entry["built"] = built.at(stage.key);
      stages.push_back(std::move(entry));
    }
    if (!stages.empty()) seeds.push_back({{"seed", result.at("seed")}, {"stages", stages}});
  }
  return seeds;
}

Json saved_by_sharing(const std::vector<FinishedRun>& runs, const std::map<std::string, double>& built) {
  struct Uses {
    std::size_t all = 0, reused = 0;
  };
  std::map<std::string, Uses> uses;
  for_each_stage(runs, [&](const StageUse& stage) {
    if (stage.key.empty()) return;
    auto& of_key = uses[stage.key];
    ++of_key.all;
    of_key.reused += stage.reused ? 1 : 0;
  });
  double seconds = 0;
  std::size_t stages = 0, unknown = 0;
  for (const auto& [key, use] : uses) {
    if (!built.contains(key)) {
      unknown += use.reused;
      continue;
    }
    seconds += static_cast<double>(use.all - 1) * built.at(key);
    stages += use.all - 1;
  }
  return {{"seconds", seconds}, {"stages", stages}, {"unknown", unknown}};
}

}  // namespace mmkd
