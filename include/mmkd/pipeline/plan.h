#pragma once
#include <optional>
#include <string>
#include <vector>

#include "mmkd/config/config.h"
#include "mmkd/data/packed.h"
#include "mmkd/stages/stage.h"

namespace mmkd {

enum class Role { teacher, student };
std::string_view name(Role role);

/// The stages of one job, their keys, and what each is made of. Pure: nothing is built here.
struct JobPlan {
  StageInputs pack;                    ///< key of the packed data in use
  std::optional<StageInputs> teacher;  ///< unset: no teacher (teacher_epochs 0 with ce_only)
  std::optional<StageInputs> cache;    ///< unset: no distillation, or live teacher outputs
  std::optional<StageInputs> student;  ///< unset: teacher_only
  StageInputs test;
};

/// `external`: name -> SHA-256 of the weight files that teacher and student start from ("teacher/vision", …).
JobPlan make_plan(const Config& config, const PackedInfo& packed, const std::string& device_type,
                  const std::map<std::string, std::string>& external);

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
