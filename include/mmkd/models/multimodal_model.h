#pragma once
#include <torch/nn/module.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "mmkd/backbones/text_backbone.h"
#include "mmkd/backbones/vision_backbone.h"
#include "mmkd/config/config.h"
#include "mmkd/fusion/fusion.h"
#include "mmkd/models/model_output.h"
#include "mmkd/nn/dropout.h"
#include "mmkd/nn/layers.h"

namespace mmkd {

/// One classification head.
struct TaskHead {
  std::string slug;  ///< unique; part of the head's weight names
  std::int64_t classes = 0;
};

/// Everything that decides a model's parameters and what they compute. The towers' sizes must be resolved: those of the
/// checkpoint where the configuration names one, and the tokenizer's vocabulary.
struct ModelSpec {
  VisionConfig vision;
  TextConfig text;
  FusionSpec fusion;
  double head_dropout = 0.1;  ///< before each head; 0 disables
  TextPooling text_pooling = TextPooling::cls;
  Modality modality = Modality::both;  ///< image, text: that tower alone; heads on its projected feature, no fusion
  std::vector<TaskHead> tasks;         ///< at least one
};

/// The spec of a configured model with resolved towers. fusion.dropout falls back to the model's.
ModelSpec make_model_spec(const ModelConfig& model, const FusionConfig& fusion, std::vector<TaskHead> tasks);

/// Numbers of trained values.
struct ParameterCounts {
  std::int64_t vision = 0, text = 0;
  std::int64_t projections = 0;  ///< of both towers to the fusion width
  std::int64_t fusion = 0, heads = 0;
  std::int64_t total() const { return vision + text + projections + fusion + heads; }
};

/// Two towers, a projection of each to the fusion width D, a fusion, and a head per task (dropout, then linear):
///   img_proj = proj_vis(vision(pixels)), txt_proj = proj_txt(text(tokens)), logits = head(fusion(img_proj, txt_proj))
/// The projected feature of a missing modality is 0.
class MultimodalModel : public torch::nn::Module {
 public:
  /// With uninitialised values; make_model() gives a model that can be used.
  explicit MultimodalModel(const ModelSpec& spec);

  /// Runs under autocast as well; outputs then may be bfloat16. In training `context` needs the batch's sample keys.
  ModelOutput forward(const ModelInput& input, const nn::ForwardContext& context) const;

  /// Every parameter: `vision.` and `text.` + the towers' checkpoint names, `proj_vis.{weight,bias}`, `proj_txt.…`,
  /// `fusion.` + the fusion's names, `head_<slug>.head.1.{weight,bias}`. Together they cover named_parameters(), each
  /// value once.
  std::vector<nn::WeightEntry> named_weights() const;
  ParameterCounts parameter_counts() const;

  const ModelSpec& spec() const { return spec_; }
  /// Null in a model of the other modality alone.
  const VisionBackbone* vision() const { return vision_.get(); }
  const TextBackbone* text() const { return text_.get(); }
  /// Names of the fusion's routes; empty without.
  bool has_energy() const { return fusion_ && fusion_->has_energy(); }
  std::vector<std::string> route_names() const { return fusion_ ? fusion_->route_names() : std::vector<std::string>{}; }

 private:
  at::Tensor text_features(const ModelInput& input, const nn::ForwardContext& context) const;
  at::Tensor fused(ModelOutput& output, const nn::ForwardContext& context) const;

  ModelSpec spec_;
  std::shared_ptr<VisionBackbone> vision_;
  std::shared_ptr<TextBackbone> text_;
  std::shared_ptr<nn::Linear> proj_vis_, proj_txt_;
  std::shared_ptr<Fusion> fusion_;
  std::vector<std::shared_ptr<nn::Dropout>> head_dropouts_;
  std::vector<std::shared_ptr<nn::Linear>> heads_;
};

/// A model with initial values that depend on the seed and the weights' names alone; weights from files go over them.
/// Throws UsageError for specs that cannot be built.
std::shared_ptr<MultimodalModel> make_model(const ModelSpec& spec, std::uint64_t seed);

/// Of a model that is not kept: allocates no memory for the values.
ParameterCounts parameter_counts(const ModelSpec& spec);

}  // namespace mmkd
