#include <algorithm>

#include "mmkd/base/error.h"
#include "mmkd/config/config.h"

namespace mmkd {
namespace {

LossTerm weighted(LossTermType type, double weight) {
  LossTerm term = default_term(type);
  term.weight = weight;
  return term;
}

/// What training.*, then loss.* and then the preset say.
struct Constants {
  double alpha, beta, gamma, T, tau;
};

Constants constants_of(const Config& config) {
  const auto& t = config.training;
  const auto& l = config.loss;
  const bool combined = l.type == LossType::combined;
  return {.alpha = t.alpha.value_or(l.alpha.value_or(1)),
          .beta = t.beta.value_or(l.beta.value_or(100)),
          .gamma = t.gamma.value_or(l.gamma.value_or(10)),
          .T = t.T.value_or(l.T.value_or(combined ? 4 : 2)),
          .tau = l.tau.value_or(0.1)};
}

std::vector<LossTerm> preset(const Config& config) {
  const auto c = constants_of(config);
  const auto& loss = config.loss;
  LossTerm kl = weighted(LossTermType::kl, c.alpha);
  kl.T = c.T;
  LossTerm crd = weighted(LossTermType::crd, loss.type == LossType::combined ? c.gamma : 1);
  crd.tau = c.tau;
  LossTerm mmd = weighted(LossTermType::mmd, 1);
  mmd.bandwidth = loss.mmd_bandwidth;
  const LossTerm ce = weighted(LossTermType::ce, 1);
  const LossTerm beside = weighted(LossTermType::ce, loss.ce_weight);
  const LossTerm mse = weighted(LossTermType::mse, c.beta);
  switch (loss.type) {
    case LossType::vanilla:
      return {ce, kl, mse};
    case LossType::combined:
      return {ce, kl, mse, crd};
    case LossType::crd:
      return {beside, crd};
    case LossType::rkd:
      return {beside, weighted(LossTermType::rkd_distance, 25), weighted(LossTermType::rkd_angle, 50)};
    case LossType::mmd:
      return {beside, mmd};
    case LossType::ce_only:
      return {ce};
  }
  throw Error("loss type {} is none of the known", static_cast<int>(loss.type));
}

}  // namespace

LossTerm default_term(LossTermType type) {
  LossTerm term{.type = type};
  switch (type) {
    case LossTermType::kl:
      term.T = 4;
      return term;
    case LossTermType::dkd:  // Zhao et al., "Decoupled knowledge distillation", 2022
      term.T = 4;
      term.beta = 8;
      return term;
    case LossTermType::ce:
    case LossTermType::mse:
    case LossTermType::crd:
    case LossTermType::rkd_distance:
    case LossTermType::rkd_angle:
    case LossTermType::mmd:
    case LossTermType::dist:
      return term;
  }
  throw Error("loss term {} is none of the known", static_cast<int>(type));
}

bool is_relational(LossTermType type) {
  switch (type) {
    case LossTermType::crd:
    case LossTermType::rkd_distance:
    case LossTermType::rkd_angle:
    case LossTermType::mmd:
    case LossTermType::dist:
      return true;
    case LossTermType::ce:
    case LossTermType::kl:
    case LossTermType::mse:
    case LossTermType::dkd:
      return false;
  }
  return false;
}

std::vector<LossTerm> resolved_loss(const Config& config) {
  auto terms = config.loss.terms.empty() ? preset(config) : config.loss.terms;
  std::erase_if(terms, [](const LossTerm& term) { return term.weight == 0 && term.type != LossTermType::ce; });
  return terms;
}

bool distils(const Config& config) {
  const auto terms = resolved_loss(config);
  return std::any_of(terms.begin(), terms.end(), [](const LossTerm& term) { return term.type != LossTermType::ce; });
}

bool without_teacher(const Config& config) {
  return !distils(config) && config.training.teacher_epochs == 0 && config.teacher.weights.empty() &&
         config.teacher.runs.empty() && !config.training.teacher_only;
}

VisionConfig custom_vision(const CustomStudentConfig& custom) {
  VisionConfig vision;
  vision.hidden_size = custom.vision_d;
  vision.num_hidden_layers = custom.vision_depth;
  vision.num_attention_heads = custom.vision_heads;
  vision.intermediate_size = custom.vision_mlp_ratio * custom.vision_d;
  vision.layer_norm_eps = 1e-5;
  vision.hidden_dropout = custom.dropout;
  return vision;
}

TextConfig custom_text(const CustomStudentConfig& custom) {
  TextConfig text;
  text.family = TextFamily::custom_text;
  text.hidden_size = custom.text_d;
  text.num_hidden_layers = custom.text_depth;
  text.num_attention_heads = custom.text_heads;
  text.intermediate_size = custom.text_mlp_ratio * custom.text_d;
  text.max_position_embeddings = custom.max_len;
  text.layer_norm_eps = 1e-5;
  text.hidden_dropout = custom.dropout;
  return text;
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
