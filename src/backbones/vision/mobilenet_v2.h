#pragma once
#include "mmkd/backbones/vision_backbone.h"
#include "mobile_blocks.h"

namespace mmkd {

/// MobileNetV2 (Sandler et al., 2018) as transformers' MobileNetV2Model.
class MobileNetV2 final : public VisionBackbone {
 public:
  explicit MobileNetV2(const VisionConfig& config);
  at::Tensor forward_features(const at::Tensor& pixels, const nn::ForwardContext& context) const override;
  at::Tensor forward(const at::Tensor& pixels, const nn::ForwardContext& context) const override;
  std::int64_t width() const override { return width_; }
  void collect_weights(const std::string& prefix, std::vector<nn::WeightEntry>& entries) const override;

 private:
  void add_blocks(const MobileNetV2Config& config, const MobileSpec& spec, const std::vector<std::int64_t>& channels);

  std::int64_t width_ = 0;
  std::shared_ptr<nn::ConvLayer> stem_first_, stem_expand_, stem_depthwise_, stem_reduce_;  // expand may be null
  std::vector<std::shared_ptr<InvertedResidual>> blocks_;
  std::shared_ptr<nn::ConvLayer> last_;
};

/// Channels of the last convolution.
std::int64_t feature_width(const MobileNetV2Config& config);

}  // namespace mmkd
