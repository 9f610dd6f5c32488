#include "mmkd/base/error.h"
#include "mmkd/config/config.h"

namespace mmkd {
namespace {

LossConstants preset(LossType type) {
  LossConstants constants;
  switch (type) {
    case LossType::vanilla:
      constants.gamma = 0;
      constants.T = 2;
      return constants;
    case LossType::combined:
      constants.gamma = 10;
      constants.T = 4;
      return constants;
    case LossType::crd:
    case LossType::rkd:
    case LossType::mmd:
    case LossType::ce_only:
      constants.alpha = constants.beta = constants.gamma = 0;
      return constants;
  }
  throw Error("loss type {} is none of the known", static_cast<int>(type));
}

}  // namespace

LossConstants resolved_loss(const Config& config) {
  const TrainingConfig& training = config.training;
  const LossConfig& loss = config.loss;
  const LossConstants base = preset(loss.type);
  const bool soft_targets = loss.type == LossType::vanilla || loss.type == LossType::combined;
  LossConstants constants = base;
  if (soft_targets) {
    constants.alpha = training.alpha.value_or(loss.alpha.value_or(base.alpha));
    constants.beta = training.beta.value_or(loss.beta.value_or(base.beta));
    constants.T = training.T.value_or(loss.T.value_or(base.T));
  }
  if (loss.type == LossType::combined) constants.gamma = training.gamma.value_or(loss.gamma.value_or(base.gamma));
  if (!soft_targets && loss.type != LossType::ce_only) constants.ce_weight = loss.ce_weight;
  constants.tau = loss.tau.value_or(base.tau);
  return constants;
}

bool without_teacher(const Config& config) {
  return config.loss.type == LossType::ce_only && config.training.teacher_epochs == 0 &&
         config.teacher.weights.empty() && !config.training.teacher_only;
}

std::string slug(const std::string& label) {
  std::string result;
  for (const char c : label) {
    const bool keep = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    if (keep)
      result += static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
    else if (!result.empty() && result.back() != '_')
      result += '_';
  }
  while (!result.empty() && result.back() == '_') result.pop_back();
  return result;
}

std::vector<TaskConfig> resolved_tasks(const DataConfig& data) {
  const auto label = [](const std::string& given, const char* own) { return given.empty() ? own : given; };
  switch (data.type) {
    case DatasetType::medpix:
      return {{label(data.task1_label, "modality"), "Type"},
              {label(data.task2_label, "location"), "Location Category"}};
    case DatasetType::wound:
      return {{label(data.task1_label, "type"), data.type_column},
              {label(data.task2_label, "severity"), data.severity_column}};
    case DatasetType::table:
      return data.tasks;
  }
  throw Error("data set type {} is none of the known", static_cast<int>(data.type));
}

std::filesystem::path artifacts_root(const Config& config) {
  if (!config.artifacts.root.empty()) return config.artifacts.root;
  // A trailing slash would make log_dir its own parent.
  auto log_dir = config.logging.log_dir.lexically_normal();
  if (!log_dir.has_filename()) log_dir = log_dir.parent_path();
  const auto holder = log_dir.parent_path();
  return holder.empty() ? "artifacts" : (holder / ".." / "artifacts").lexically_normal();
}

}  // namespace mmkd
