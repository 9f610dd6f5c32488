#include "mmkd/pipeline/plan.h"

#include <algorithm>

#include "mmkd/base/error.h"
#include "mmkd/config/print.h"

namespace mmkd {
namespace {

// Raised by hand when the meaning of a stage's result changes.
constexpr int kTeacherVersion = 1;
constexpr int kCacheVersion = 1;
constexpr int kStudentVersion = 1;
constexpr int kTestVersion = 1;

bool distils(const Config& config) { return config.loss.type != LossType::ce_only; }

/// What training a model depends on, whichever its role.
nlohmann::json training_subset(const Config& config) {
  return subset(config, {"data.batch_size", "fusion", "training.seed", "training.precision", "training.weight_decay",
                         "training.betas", "training.eps", "training.clip_norm", "training.schedule",
                         "training.warmup_fraction", "training.micro_batch_size"});
}

std::map<std::string, std::string> only(const std::map<std::string, std::string>& external, std::string_view prefix) {
  std::map<std::string, std::string> chosen;
  for (const auto& [name, digest] : external) {
    if (name.starts_with(prefix)) chosen.emplace(name, digest);
  }
  return chosen;
}

StageInputs teacher_inputs(const Config& config, const StageInputs& pack, const std::string& device,
                           const std::map<std::string, std::string>& external) {
  StageInputs stage{.stage = "teacher", .version = kTeacherVersion};
  stage.config = training_subset(config);
  stage.config.merge_patch(
      subset(config, {"teacher", "training.teacher_epochs", "training.teacher_lr", "training.teacher_select"}));
  stage.config["teacher"].erase("weights");  // its content counts, not its path
  stage.config["device"] = device;
  stage.parents = {{"pack", pack.key()}};
  stage.external = only(external, "teacher/");
  return stage;
}

StageInputs cache_inputs(const Config& config, const StageInputs& pack, const StageInputs& teacher,
                         const std::string& device) {
  StageInputs stage{.stage = "cache", .version = kCacheVersion};
  stage.config = subset(config, {"cache", "training.precision"});
  stage.config["device"] = device;
  stage.parents = {{"pack", pack.key()}, {"teacher", teacher.key()}};
  return stage;
}

StageInputs student_inputs(const Config& config, const JobPlan& plan, const std::string& device,
                           const std::map<std::string, std::string>& external) {
  StageInputs stage{.stage = "student", .version = kStudentVersion};
  stage.config = training_subset(config);
  stage.config.merge_patch(subset(config, {"student", "training.student_epochs", "training.student_lr", "loss.type"}));
  stage.config["student"].erase("weights");
  stage.config["loss"]["constants"] = to_json(resolved_loss(config));
  stage.config["device"] = device;
  stage.parents = {{"pack", plan.pack.key()}};
  if (plan.cache) {
    stage.parents["cache"] = plan.cache->key();
  } else if (distils(config)) {
    stage.parents["teacher"] = plan.teacher->key();
  }
  stage.external = only(external, "student/");
  return stage;
}

}  // namespace

std::string_view name(Role role) { return role == Role::teacher ? "teacher" : "student"; }

bool plans_cache(const Config& config) {
  return !config.training.teacher_only && distils(config) && config.training.teacher == TeacherOutputsFrom::cached;
}

JobPlan make_plan(const Config& config, const PackedInfo& packed, const std::string& device_type,
                  const std::map<std::string, std::string>& external) {
  JobPlan plan;
  // The packed set may lie anywhere (data.packed): its own key and content stand for it.
  plan.pack = {.stage = "pack", .version = 1, .external = {{"packed", packed.key}, {"digest", packed.digest}}};
  if (!without_teacher(config)) plan.teacher = teacher_inputs(config, plan.pack, device_type, external);
  const bool has_student = !config.training.teacher_only;
  if (plans_cache(config)) {
    plan.cache = cache_inputs(config, plan.pack, *plan.teacher, device_type);
  }
  if (has_student) plan.student = student_inputs(config, plan, device_type, external);
  if (!plan.teacher && !plan.student) {
    throw UsageError(
        "training.teacher_only is set but there is no teacher: raise training.teacher_epochs or give teacher.weights");
  }

  plan.test = {.stage = "test", .version = kTestVersion};
  plan.test.config = subset(config, {"evaluation.save_teacher_metrics", "training.precision"});
  plan.test.config["device"] = device_type;
  plan.test.parents = {{"pack", plan.pack.key()}};
  if (plan.teacher && (config.evaluation.save_teacher_metrics || !plan.student))
    plan.test.parents["teacher"] = plan.teacher->key();
  if (plan.student) plan.test.parents["student"] = plan.student->key();
  return plan;
}

std::string plan_table(const std::vector<PlannedStage>& stages) {
  std::string table = fmt::format("{:<8}  {:<12}  {:<6}  {}\n", "stage", "key", "", "why");
  for (const auto& stage : stages) {
    table += fmt::format("{:<8}  {:<12}  {:<6}  {}\n", stage.stage, stage.key.substr(0, 12),
                         stage.ready ? "reuse" : "build", stage.reason);
  }
  return table;
}

}  // namespace mmkd
