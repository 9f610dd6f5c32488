#include "mmkd/sweep/graph.h"

#include <algorithm>
#include <map>
#include <optional>

#include "mmkd/base/error.h"
#include "mmkd/base/files.h"
#include "mmkd/config/print.h"
#include "mmkd/config/teachers.h"
#include "mmkd/data/pack.h"
#include "mmkd/plan/model_files.h"

namespace mmkd {
namespace {

/// What of a run's data decides keys.
struct RunData {
  std::optional<StageInputs> pack;  ///< none: data.packed names a folder
  DataKeys keys;
};

/// Runs with the same data and inputs of the models share the scan of the data set.
class DataOfRuns {
 public:
  const RunData& of(const Config& config) {
    auto settings = subset(config, {"data", "teacher", "student", "weights", "artifacts", "training.teacher_only"});
    settings["without_teacher"] = without_teacher(config);
    const auto [found, added] = known_.try_emplace(settings.dump());
    if (!added) return found->second;
    auto& data = found->second;
    if (config.data.packed.empty()) data.pack = pack_stage_inputs(config);
    data.keys.inputs = job_input_keys(config);
    return data;
  }

 private:
  std::map<std::string, RunData> known_;
};

class GraphBuilder {
 public:
  GraphBuilder(SweepGraph& graph, const std::string& device_type) : graph_(graph), device_type_(device_type) {}

  void add_run(std::size_t run) {
    const auto& config = graph_.sweep.runs[run].loaded.config;
    const auto& data = data_.of(config);
    const auto device = device_type_.empty() ? expected_device_type(config.device) : device_type_;
    DigestMemo memo(artifacts_root(config));
    graph_.plans.push_back(make_plan(config, data.keys, device, external_digests(config, memo)));
    const auto& plan = graph_.plans.back();
    std::map<std::string, std::size_t> by_key;  // of this run
    std::vector<std::size_t> all;
    if (data.pack) {
      all.push_back(shared_node(run, "pack", *data.pack));
      for (const auto& view : plan.data) by_key[view.key()] = all.front();
    }
    for (const auto& [name, inputs] : stages_of(plan)) {
      if (inputs->stage == "test") continue;
      const auto node = shared_node(run, name, *inputs);
      if (graph_.nodes[node].parents.empty()) graph_.nodes[node].parents = parents_of(*inputs, by_key);
      by_key[inputs->key()] = node;
      all.push_back(node);
    }
    add_end(run, all);
  }

 private:
  std::size_t shared_node(std::size_t run, const std::string& name, const StageInputs& inputs) {
    const auto key = inputs.key();
    const auto [found, added] = numbers_.try_emplace(inputs.stage + "/" + key, graph_.nodes.size());
    if (added) {
      constexpr std::size_t kShown = 12;
      graph_.nodes.push_back({.id = inputs.stage + "-" + key.substr(0, kShown),
                              .stage = inputs.stage,
                              .name = name,
                              .inputs = inputs,
                              .parents = {},
                              .builder = run,
                              .runs = {}});
    }
    auto& runs = graph_.nodes[found->second].runs;
    if (runs.empty() || runs.back() != run) runs.push_back(run);
    return found->second;
  }

  static std::vector<std::size_t> parents_of(const StageInputs& inputs,
                                             const std::map<std::string, std::size_t>& by_key) {
    std::vector<std::size_t> parents;
    for (const auto& [name, key] : inputs.parents) {
      const auto found = by_key.find(key);
      if (found == by_key.end()) continue;  // the data, where it was packed by other means
      if (std::find(parents.begin(), parents.end(), found->second) == parents.end()) parents.push_back(found->second);
    }
    return parents;
  }

  void add_end(std::size_t run, std::vector<std::size_t> parents) {
    std::string id = "run-" + graph_.sweep.runs[run].name;
    std::replace(id.begin(), id.end(), '/', '-');
    graph_.nodes.push_back({.id = id,
                            .stage = "test",
                            .name = "test",
                            .inputs = graph_.plans[run].test,
                            .parents = std::move(parents),
                            .builder = run,
                            .runs = {run}});
  }

  SweepGraph& graph_;
  std::string device_type_;
  DataOfRuns data_;
  std::map<std::string, std::size_t> numbers_;
};

}  // namespace

SweepGraph plan_sweep(Sweep sweep, const std::string& device_type) {
  SweepGraph graph;
  graph.sweep = std::move(sweep);
  GraphBuilder builder(graph, device_type);
  for (std::size_t run = 0; run < graph.sweep.runs.size(); ++run) {
    try {
      builder.add_run(run);
    } catch (const UsageError& e) {
      throw UsageError("{}: run {}: {}", graph.sweep.file.string(), graph.sweep.runs[run].name, e.what());
    }
  }
  return graph;
}

}  // namespace mmkd
