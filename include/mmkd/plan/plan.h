#pragma once
#include <array>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mmkd/config/config.h"
#include "mmkd/data/packed.h"
#include "mmkd/stages/stage.h"

namespace mmkd {

enum class Role { teacher, student };
std::string_view name(Role role);

/// What of the packed data decides the keys of the stages after it; known before the data is packed.
struct DataKeys {
  std::array<std::string, 2> inputs;  ///< [teacher, student]: PackedInfo::input_keys
};

/// The stages of one job, their keys, and what each is made of. Pure: nothing is built here.
struct JobPlan {
  std::array<StageInputs, 2> data;     ///< the packed data as [teacher, student] sees it
  std::vector<StageInputs> teachers;   ///< empty: none (ce_only with teacher_epochs 0), or mode joint
  std::vector<StageInputs> caches;     ///< one for each teacher; empty: no distillation, or live teacher outputs
  std::optional<StageInputs> joint;    ///< teacher and student in one loop
  std::optional<StageInputs> student;  ///< unset: teacher_only, or mode joint
  StageInputs test;
};

/// `external`: name -> SHA-256 of the weight files that the models start from ("teacher/vision/…", "teacher.1/…",
/// "student/…").
JobPlan make_plan(const Config& config, const DataKeys& data, const std::string& device_type,
                  const std::map<std::string, std::string>& external);

/// The stages after the data in the order in which they run, by the names that logs, results and `--until` use.
std::vector<std::pair<std::string, const StageInputs*>> stages_of(const JobPlan& plan);

/// The plan of a job by itself, before or after its data is packed. Reads the data set's tables; throws UsageError for
/// what is missing.
JobPlan plan_job(const Config& config, const std::string& device_type);

/// Are there results in the log folder, of a run of just this plan?
bool has_results(const std::filesystem::path& log_dir, const JobPlan& plan);

/// "cpu" or "cuda": what a job on this machine would take.
std::string expected_device_type(Device wanted);

/// "teacher", "teacher.1", …: how parents and external files of one of several teachers are called.
std::string numbered(std::string_view name, std::size_t number);

/// Does a run of this configuration compute the teacher's outputs beforehand?
bool plans_cache(const Config& config);

/// One line of the plan: what would happen and why.
struct PlannedStage {
  std::string stage, key;
  bool ready = false;
  std::string reason;
};
std::string plan_table(const std::vector<PlannedStage>& stages);

}  // namespace mmkd
