#pragma once
#include <ATen/ATen.h>
#include <torch/nn/module.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "mmkd/config/config.h"
#include "mmkd/nn/context.h"
#include "mmkd/nn/weight_entry.h"

namespace mmkd {

// B batch, H/W picture height and width, N tokens, D width of the tower, h/w height and width of a conv net's last map

/// A vision tower: pictures to one feature vector each. Batch norms of conv nets communicate: with several ranks, every
/// rank must call forward and backward then.
class VisionBackbone : public torch::nn::Module {
 public:
  /// pixels [B, 3, H, W], normalised -> transformers: [B, N, D], behind the last layer norm, the class token being row
  /// 0; conv nets: the last map, [B, D, h, w].
  virtual at::Tensor forward_features(const at::Tensor& pixels, const nn::ForwardContext& context) const = 0;
  /// pixels [B, 3, H, W], normalised -> [B, D]: row 0 of forward_features(), without computing the other rows of the
  /// end, or the mean over the last map.
  virtual at::Tensor forward(const at::Tensor& pixels, const nn::ForwardContext& context) const = 0;
  virtual std::int64_t width() const = 0;
  /// Appends every parameter under `prefix` + its name in a Hugging Face checkpoint of the bare tower.
  virtual void collect_weights(const std::string& prefix, std::vector<nn::WeightEntry>& entries) const = 0;
  std::vector<nn::WeightEntry> named_weights() const;
};

/// A tower of the configured size, with uninitialised values: nn::initialize(named_weights()) or a checkpoint fills
/// them. vit is ViTModel, deit is DeiTModel, with a distillation token, mobilevit is MobileViTModel, mobilenet_v2 is
/// MobileNetV2Model; none has a pooler. Pictures of another size than image_size are accepted: position embeddings are
/// interpolated (bicubic) to the patches that fit. Throws UsageError for sizes that cannot be built.
std::shared_ptr<VisionBackbone> make_vision_backbone(const VisionConfig& config);

/// Width D of such a tower.
std::int64_t feature_width(const VisionConfig& config);

}  // namespace mmkd
