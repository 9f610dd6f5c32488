#pragma once
#include <array>

#include "mmkd/backbones/vision_backbone.h"
#include "mmkd/nn/transformer.h"
#include "mobile_blocks.h"

namespace mmkd {

/// One MobileViT block: local convolutions, then a transformer among the pixels that lie at the same place of their
/// patches, joined with the block's input.
class MobileVitBlock : public torch::nn::Module {
 public:
  struct Sizes {
    std::int64_t inputs = 0, outputs = 0, hidden = 0, layers = 0;
    std::int64_t stride = 2, dilation = 1;  ///< of the downsampling
  };
  MobileVitBlock(const MobileVitConfig& config, const MobileSpec& spec, const Sizes& sizes);
  /// x [B, inputs, H, W] -> [B, outputs, H / stride, W / stride]
  at::Tensor forward(const at::Tensor& x, const nn::ForwardContext& context) const;
  void collect_weights(const std::string& prefix, double initializer_range,
                       std::vector<nn::WeightEntry>& entries) const;

 private:
  at::Tensor attended(const at::Tensor& map, const nn::ForwardContext& context) const;

  std::int64_t patch_;
  std::shared_ptr<InvertedResidual> downsampling_;
  std::shared_ptr<nn::ConvLayer> local_, expand_, projection_, fusion_;
  std::shared_ptr<nn::Transformer> transformer_;
  std::shared_ptr<nn::LayerNorm> norm_;
};

/// MobileViT (Mehta and Rastegari, 2021) as transformers' MobileViTModel.
class MobileVit final : public VisionBackbone {
 public:
  explicit MobileVit(const VisionConfig& config);
  at::Tensor forward_features(const at::Tensor& pixels, const nn::ForwardContext& context) const override;
  at::Tensor forward(const at::Tensor& pixels, const nn::ForwardContext& context) const override;
  std::int64_t width() const override { return width_; }
  void collect_weights(const std::string& prefix, std::vector<nn::WeightEntry>& entries) const override;

 private:
  std::int64_t width_ = 0;
  double initializer_range_;
  std::shared_ptr<nn::ConvLayer> stem_, last_;
  std::array<std::vector<std::shared_ptr<InvertedResidual>>, 2> mobile_layers_;
  std::array<std::shared_ptr<MobileVitBlock>, 3> blocks_;
};

}  // namespace mmkd
