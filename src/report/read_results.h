#pragma once
#include <initializer_list>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "mmkd/report/runs.h"

// What the comparisons of runs look up in results.json. A file of an older version lacks some of it, so that everything
// is optional here.
namespace mmkd {

/// The value at the end of a path of keys; null where there is none. Lives as long as `json`.
const nlohmann::ordered_json* find_value(const nlohmann::ordered_json& json, std::initializer_list<std::string> path);
std::optional<double> find_number(const nlohmann::ordered_json& json, std::initializer_list<std::string> path);

/// False: a run with training.teacher_only, whose metrics are those of the teacher.
bool has_student(const nlohmann::ordered_json& result);
/// What the loss is called: its type, or its terms.
std::string loss_name(const nlohmann::ordered_json& result);
/// Keys of the tasks of all runs, in order of first appearance.
std::vector<std::string> task_keys(const std::vector<FinishedRun>& runs);

}  // namespace mmkd
