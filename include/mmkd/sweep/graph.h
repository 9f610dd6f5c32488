#pragma once
#include <cstddef>
#include <string>
#include <vector>

#include "mmkd/config/sweep.h"
#include "mmkd/plan/plan.h"
#include "mmkd/stages/stage.h"

namespace mmkd {

/// One stage that runs of a sweep need, once however many need it; or the end of one run, its test and its log folder.
struct SweepNode {
  std::string id;     ///< "teacher-0f3a…" (stage and start of the key), "run-film"
  std::string stage;  ///< "pack", "teacher", "cache", "joint", "student"; "test": the end of a run
  std::string name;   ///< what `mmkd-ddp --until` calls it in the run `builder`
  StageInputs inputs;
  std::vector<std::size_t> parents;  ///< nodes that must be done before; their numbers are smaller
  std::size_t builder = 0;           ///< the run whose configuration builds it
  std::vector<std::size_t> runs;     ///< that need it
};

/// The stages of a sweep, each after those it is made from.
struct SweepGraph {
  Sweep sweep;
  std::vector<SweepNode> nodes;
  std::vector<JobPlan> plans;  ///< of each run

  const Config& config_of(const SweepNode& node) const { return sweep.runs[node.builder].loaded.config; }
};

/// `device_type`: "cpu" or "cuda"; empty: what each configuration would take on this machine. Reads the data sets'
/// tables; throws UsageError for what is missing, with the run's name.
SweepGraph plan_sweep(Sweep sweep, const std::string& device_type = "");

}  // namespace mmkd
