#pragma once
#include <map>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "mmkd/report/runs.h"

// Stages that several runs share: one builds them, the others reuse them.
namespace mmkd {

/// Seconds that building a stage took, by its key, as far as one of the results knows them.
std::map<std::string, double> built_seconds(const std::vector<FinishedRun>& runs);

/// [{seed, stages: [{stage, seconds, reused, built}]}] of a run; `built`: seconds where it was built, if they are
/// known.
nlohmann::ordered_json stage_times(const FinishedRun& run, const std::map<std::string, double>& built);

/// {seconds, stages, unknown}: of every stage that several of the results have, what it took but for the first time;
/// `unknown` reuses of stages whose time nobody noted.
nlohmann::ordered_json saved_by_sharing(const std::vector<FinishedRun>& runs,
                                        const std::map<std::string, double>& built);

}  // namespace mmkd
