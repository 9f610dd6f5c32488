#include "mmkd/plan/plan.h"

#include <algorithm>

#include "mmkd/base/error.h"
#include "mmkd/base/files.h"
#include "mmkd/base/json_file.h"
#include "mmkd/config/print.h"
#include "mmkd/config/teachers.h"
#include "mmkd/data/pack.h"
#include "mmkd/plan/model_files.h"

namespace mmkd {
namespace {

// Raised by hand when the meaning of a stage's result changes.
constexpr int kTeacherVersion = 4;
constexpr int kCacheVersion = 3;
constexpr int kStudentVersion = 4;
constexpr int kJointVersion = 3;
constexpr int kTestVersion = 3;

using Json = nlohmann::json;
using Digests = std::map<std::string, std::string>;

/// What training a model depends on, whichever its role.
Json training_subset(const Config& config) {
  Json json = subset(
      config, {"data.batch_size", "training.precision", "training.weight_decay", "training.betas", "training.eps",
               "training.clip_norm", "training.schedule", "training.warmup_fraction", "training.micro_batch_size"});
  if (config.augment.views > 0) json.merge_patch(subset(config, {"augment"}));
  if (config.training.gradient_exchange != Precision::fp32)
    json.merge_patch(subset(config, {"training.gradient_exchange"}));
  if (config.training.spike_factor > 0) json.merge_patch(subset(config, {"training.spike_factor"}));
  return json;
}

/// Keys of a section that name files or other runs: their content counts, as external digests.
void erase_references(Json& model) {
  for (const char* key : {"weights", "seeds", "runs"}) model.erase(key);
}

Digests only(const Digests& external, const std::string& prefix) {
  Digests chosen;
  for (const auto& [name, digest] : external) {
    // The number of a teacher does not matter, what it starts from does.
    if (name.starts_with(prefix + "/")) chosen.emplace(name.substr(prefix.size() + 1), digest);
  }
  return chosen;
}

StageInputs teacher_inputs(const Config& config, const TeacherSource& source, const StageInputs& data,
                           const std::string& device, const Digests& external) {
  Config with_source = config;
  with_source.teacher = source.model;
  with_source.fusion = source.fusion;
  StageInputs stage{.stage = "teacher", .version = kTeacherVersion};
  stage.config = subset(with_source, {"teacher", "fusion"});
  erase_references(stage.config["teacher"]);
  if (source.trained) {
    stage.config.merge_patch(training_subset(config));
    stage.config.merge_patch(
        subset(config, {"training.teacher_epochs", "training.teacher_lr", "training.teacher_select"}));
    stage.config["training"]["seed"] = source.seed;
    if (config.augment.views > 0)
      stage.config["augment"]["seed"] = config.training.seed;  // the job's, not the teacher's
  } else if (source.weights.empty()) {
    stage.config["training"]["seed"] = source.seed;
  }
  stage.config["device"] = device;
  stage.parents = {{"pack", data.key()}};
  stage.external = external;
  return stage;
}

StageInputs cache_inputs(const Config& config, const StageInputs& data, const StageInputs& teacher,
                         const std::string& device) {
  StageInputs stage{.stage = "cache", .version = kCacheVersion};
  stage.config = subset(config, {"cache", "training.precision"});
  if (config.augment.views > 0) stage.config.merge_patch(subset(config, {"augment", "training.seed"}));
  stage.config["device"] = device;
  stage.parents = {{"pack", data.key()}, {"teacher", teacher.key()}};
  return stage;
}

/// What a student's training depends on beside its teachers.
Json student_subset(const Config& config) {
  Json json = training_subset(config);
  json.merge_patch(subset(config, {"student", "fusion", "training.seed", "training.student_epochs",
                                   "training.student_lr", "loss.projection"}));
  erase_references(json["student"]);
  json["loss"]["terms"] = to_json(resolved_loss(config));
  return json;
}

StageInputs student_inputs(const Config& config, const JobPlan& plan, const std::string& device,
                           const Digests& external) {
  StageInputs stage{.stage = "student", .version = kStudentVersion};
  stage.config = student_subset(config);
  stage.config["device"] = device;
  stage.parents = {{"pack", plan.data[1].key()}};
  const bool cached = !plan.caches.empty();
  const auto& sources = cached ? plan.caches : plan.teachers;
  if (distils(config)) {
    for (std::size_t i = 0; i < sources.size(); ++i)
      stage.parents[numbered(cached ? "cache" : "teacher", i)] = sources[i].key();
  }
  stage.external = only(external, "student");
  return stage;
}

StageInputs joint_inputs(const Config& config, const JobPlan& plan, const std::string& device,
                         const Digests& external) {
  StageInputs stage{.stage = "joint", .version = kJointVersion};
  stage.config = student_subset(config);
  stage.config.merge_patch(subset(config, {"teacher", "training.teacher_lr"}));
  erase_references(stage.config["teacher"]);
  stage.config["device"] = device;
  stage.parents = {{"pack", plan.data[1].key()}, {"pack.teacher", plan.data[0].key()}};
  stage.external = external;
  return stage;
}

/// The packed data stands for itself by its own key.
StageInputs data_inputs(const std::string& key) {
  return {.stage = "pack", .version = 1, .external = {{"inputs", key}}};
}

}  // namespace

std::string_view name(Role role) { return role == Role::teacher ? "teacher" : "student"; }

std::string numbered(std::string_view name, std::size_t number) {
  return number == 0 ? std::string(name) : fmt::format("{}.{}", name, number);
}

bool plans_cache(const Config& config) {
  return !config.training.teacher_only && distils(config) && config.training.mode == TrainingMode::two_stage &&
         config.training.teacher == TeacherOutputsFrom::cached;
}

JobPlan make_plan(const Config& config, const DataKeys& data, const std::string& device_type,
                  const std::map<std::string, std::string>& external) {
  JobPlan plan;
  for (std::size_t role = 0; role < plan.data.size(); ++role) plan.data[role] = data_inputs(data.inputs[role]);
  const bool joint = config.training.mode == TrainingMode::joint;
  const auto sources = teacher_sources(config);
  if (joint) {
    plan.joint = joint_inputs(config, plan, device_type, external);
  } else {
    for (std::size_t i = 0; i < sources.size(); ++i) {
      plan.teachers.push_back(
          teacher_inputs(config, sources[i], plan.data[0], device_type, only(external, numbered("teacher", i))));
    }
    if (plans_cache(config)) {
      for (const auto& teacher : plan.teachers)
        plan.caches.push_back(cache_inputs(config, plan.data[0], teacher, device_type));
    }
    if (!config.training.teacher_only) plan.student = student_inputs(config, plan, device_type, external);
  }
  if (plan.teachers.empty() && !plan.student && !plan.joint) {
    throw UsageError("training.teacher_only is set but there is no teacher: raise training.teacher_epochs");
  }

  plan.test = {.stage = "test", .version = kTestVersion};
  plan.test.config = subset(config, {"evaluation", "training.precision"});
  plan.test.config["evaluation"].erase("batch_size");
  if (config.evaluation.robustness) plan.test.config["seed"] = config.training.seed;
  plan.test.config["device"] = device_type;
  if (joint) {
    plan.test.parents["joint"] = plan.joint->key();
  } else if (config.evaluation.save_teacher_metrics || !plan.student) {
    for (std::size_t i = 0; i < plan.teachers.size(); ++i)
      plan.test.parents[numbered("teacher", i)] = plan.teachers[i].key();
  }
  if (plan.student) plan.test.parents["student"] = plan.student->key();
  return plan;
}

std::vector<std::pair<std::string, const StageInputs*>> stages_of(const JobPlan& plan) {
  std::vector<std::pair<std::string, const StageInputs*>> stages;
  for (std::size_t i = 0; i < plan.teachers.size(); ++i) stages.emplace_back(numbered("teacher", i), &plan.teachers[i]);
  for (std::size_t i = 0; i < plan.caches.size(); ++i) stages.emplace_back(numbered("cache", i), &plan.caches[i]);
  if (plan.joint) stages.emplace_back("joint", &*plan.joint);
  if (plan.student) stages.emplace_back("student", &*plan.student);
  stages.emplace_back("test", &plan.test);
  return stages;
}

bool has_results(const fs::path& log_dir, const JobPlan& plan) {
  const auto results = json_object_or_empty(log_dir / "results.json");
  if (!results.contains("keys") || !results["keys"].is_object()) return false;
  const auto& keys = results["keys"];
  const auto stages = stages_of(plan);
  return std::all_of(stages.begin(), stages.end(), [&](const auto& stage) {
    const auto found = keys.find(stage.first);
    return found != keys.end() && *found == stage.second->key();
  });
}

std::string expected_device_type(Device wanted) {
  if (wanted != Device::automatic) return wanted == Device::cuda ? "cuda" : "cpu";
  return fs::exists("/dev/nvidiactl") ? "cuda" : "cpu";
}

JobPlan plan_job(const Config& config, const std::string& device_type) {
  DataKeys data;
  data.inputs = job_input_keys(config);
  DigestMemo memo(artifacts_root(config));
  return make_plan(config, data, device_type, external_digests(config, memo));
}

std::string plan_table(const std::vector<PlannedStage>& stages) {
  std::string table = fmt::format("{:<9}  {:<12}  {:<6}  {}\n", "stage", "key", "", "why");
  for (const auto& stage : stages) {
    table += fmt::format("{:<9}  {:<12}  {:<6}  {}\n", stage.stage, stage.key.substr(0, 12),
                         stage.ready ? "reuse" : "build", stage.reason);
  }
  return table;
}

}  // namespace mmkd
