#include "mmkd/models/multimodal_model.h"

#include <set>

#include "mmkd/base/error.h"

namespace mmkd {
namespace {

// B batch, S text tokens, D fusion width

void check(const std::vector<TaskHead>& tasks) {
  if (tasks.empty()) throw UsageError("model: at least one task is needed");
  std::set<std::string> slugs;
  for (const auto& task : tasks) {
    if (task.slug.empty() || task.slug.find('.') != std::string::npos) {
      throw UsageError("model: '{}' is no name for a task's head", task.slug);
    }
    if (!slugs.insert(task.slug).second) throw UsageError("model: two tasks are named '{}'", task.slug);
    if (task.classes < 1) throw UsageError("model: the task '{}' has {} classes", task.slug, task.classes);
  }
}

/// Mean over the real tokens: features [B, S, D], mask [B, S] -> [B, D].
at::Tensor masked_mean(const at::Tensor& features, const at::Tensor& mask) {
  const at::Tensor weight = mask.unsqueeze(-1).to(at::kFloat);  // [B, S, 1]
  return (features.to(at::kFloat) * weight).sum(1) / weight.sum(1).clamp_min(1);
}

std::int64_t count(const torch::nn::Module& module) {
  std::int64_t values = 0;
  for (const auto& parameter : module.parameters()) values += parameter.numel();
  return values;
}

}  // namespace

ModelSpec make_model_spec(const ModelConfig& model, const FusionConfig& fusion, std::vector<TaskHead> tasks) {
  const bool custom = model.arch == StudentArch::custom_tiny;
  return {.vision = model.vision,
          .text = model.text,
          .fusion = {.type = custom ? FusionType::gated_mlp : fusion.type,
                     .dim = model.fusion_dim,
                     .heads = model.fusion_heads,
                     .layers = model.fusion_layers,
                     .hidden_mult = fusion.hidden_mult,
                     .dropout = fusion.dropout.value_or(model.dropout),
                     .p_img = fusion.p_img,
                     .p_txt = fusion.p_txt,
                     .temperature = fusion.temperature,
                     .routing = fusion.routing},
          .head_dropout = custom ? 0 : model.dropout,
          .text_pooling = model.text_pooling,
          .modality = model.modality,
          .tasks = std::move(tasks)};
}

MultimodalModel::MultimodalModel(const ModelSpec& spec) : spec_(spec) {
  check(spec.tasks);
  if (spec.fusion.dim < 1) throw UsageError("model: the width {} must be positive", spec.fusion.dim);
  // Parameters that a configuration never uses are not made: every one takes part in every step.
  if (spec.modality != Modality::text) {
    vision_ = register_module("vision", make_vision_backbone(spec.vision));
    proj_vis_ = register_module("proj_vis", std::make_shared<nn::Linear>(vision_->width(), spec.fusion.dim));
  }
  if (spec.modality != Modality::image) {
    text_ = register_module("text", make_text_backbone(spec.text));
    proj_txt_ = register_module("proj_txt", std::make_shared<nn::Linear>(text_->width(), spec.fusion.dim));
  }
  if (spec.modality == Modality::both) fusion_ = register_module("fusion", make_fusion(spec.fusion));
  for (const auto& task : spec.tasks) {
    head_dropouts_.push_back(
        register_module("head_dropout_" + task.slug, std::make_shared<nn::Dropout>(spec.head_dropout)));
    heads_.push_back(register_module("head_" + task.slug, std::make_shared<nn::Linear>(spec.fusion.dim, task.classes)));
  }
  nn::assign_dropout_ids(*this);
}

at::Tensor MultimodalModel::text_features(const ModelInput& input, const nn::ForwardContext& context) const {
  switch (spec_.text_pooling) {
    case TextPooling::cls:
      return text_->forward(input.input_ids, {input.attention_mask, input.text_lengths}, context);
    case TextPooling::mean:
      return masked_mean(text_->forward_features(input.input_ids, {input.attention_mask, input.text_lengths}, context),
                         input.attention_mask);
  }
  throw Error("text pooling {} is none of the known", static_cast<int>(spec_.text_pooling));
}

namespace {

/// 0 in the rows where `present` [B] is false.
at::Tensor where_present(const at::Tensor& feature, const at::Tensor& present) {
  return present.defined() ? feature * present.to(feature.scalar_type()).unsqueeze(1) : feature;
}

}  // namespace

/// What the heads see, [B, D].
at::Tensor MultimodalModel::fused(ModelOutput& output, const nn::ForwardContext& context) const {
  switch (spec_.modality) {
    case Modality::image:
      return output.img_proj;
    case Modality::text:
      return output.txt_proj;
    case Modality::both:
      break;
  }
  const FusionOutput fusion = fusion_->forward(output.img_proj, output.txt_proj, context);
  output.energy = fusion.energy;
  output.route = fusion.route;
  return fusion.fused;
}

ModelOutput MultimodalModel::forward(const ModelInput& input, const nn::ForwardContext& context) const {
  ModelOutput output;
  if (vision_) {
    output.img_raw = vision_->forward(input.pixels, context);
    output.img_proj = where_present(proj_vis_->forward(output.img_raw), input.has_image);
  }
  if (text_) {
    output.txt_raw = text_features(input, context);
    output.txt_proj = where_present(proj_txt_->forward(output.txt_raw), input.has_text);
  }
  const at::Tensor feature = fused(output, context);
  for (std::size_t i = 0; i < heads_.size(); ++i) {
    output.logits.push_back(heads_[i]->forward(head_dropouts_[i]->forward(feature, context)));
  }
  return output;
}

std::vector<nn::WeightEntry> MultimodalModel::named_weights() const {
  const auto scheme = nn::InitScheme::torch();
  std::vector<nn::WeightEntry> entries;
  if (vision_) vision_->collect_weights("vision.", entries);
  if (text_) text_->collect_weights("text.", entries);
  if (vision_) proj_vis_->collect_weights("proj_vis.", scheme, entries);
  if (text_) proj_txt_->collect_weights("proj_txt.", scheme, entries);
  if (fusion_) fusion_->collect_weights("fusion.", entries);
  for (std::size_t i = 0; i < heads_.size(); ++i) {
    heads_[i]->collect_weights("head_" + spec_.tasks[i].slug + ".head.1.", scheme, entries);
  }
  return entries;
}

ParameterCounts MultimodalModel::parameter_counts() const {
  const auto of = [](const auto& module) { return module ? count(*module) : 0; };
  ParameterCounts counts;
  counts.vision = of(vision_);
  counts.text = of(text_);
  counts.projections = of(proj_vis_) + of(proj_txt_);
  counts.fusion = of(fusion_);
  for (const auto& head : heads_) counts.heads += count(*head);
  return counts;
}

std::shared_ptr<MultimodalModel> make_model(const ModelSpec& spec, std::uint64_t seed) {
  auto model = std::make_shared<MultimodalModel>(spec);
  nn::initialize(model->named_weights(), seed);
  return model;
}

ParameterCounts parameter_counts(const ModelSpec& spec) {
  // Memory that is never written to is never taken from the machine.
  return MultimodalModel(spec).parameter_counts();
}

}  // namespace mmkd
