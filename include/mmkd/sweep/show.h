#pragma once
#include <string>
#include <vector>

#include "mmkd/sweep/graph.h"
#include "mmkd/sweep/state.h"

namespace mmkd {

/// The stages of a sweep as a table: which are there, how many runs share each, and what the sharing saves.
std::string plan_text(const SweepGraph& graph, const std::vector<NodeStatus>& status);

/// How far a sweep is: counts, then one line for each run, then each node that is neither done nor waiting. `all`:
/// every node.
std::string status_text(const SweepGraph& graph, const std::vector<NodeStatus>& status, bool all);

}  // namespace mmkd
