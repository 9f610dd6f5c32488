#pragma once
#include "mmkd/backbones/vision_backbone.h"
#include "mmkd/nn/transformer.h"

namespace mmkd {

/// ViT (Dosovitskiy et al., 2020) and, with a distillation token behind the class token, DeiT (Touvron et al., 2020).
class Vit final : public VisionBackbone {
 public:
  explicit Vit(const VisionConfig& config);
  at::Tensor forward_features(const at::Tensor& pixels, const nn::ForwardContext& context) const override;
  at::Tensor forward(const at::Tensor& pixels, const nn::ForwardContext& context) const override;
  std::int64_t width() const override { return config_.hidden_size; }
  void collect_weights(const std::string& prefix, std::vector<nn::WeightEntry>& entries) const override;

 private:
  bool distilled() const { return config_.family == VisionFamily::deit; }
  std::int64_t special_tokens() const { return distilled() ? 2 : 1; }
  std::int64_t grid() const { return config_.image_size / config_.patch_size; }
  at::Tensor embed(const at::Tensor& pixels, const nn::ForwardContext& context) const;
  at::Tensor embed_patches(const at::Tensor& pixels, std::int64_t rows, std::int64_t columns) const;
  at::Tensor positions(std::int64_t rows, std::int64_t columns) const;

  VisionConfig config_;
  at::Tensor class_token_, distillation_token_;  // [1, 1, D]; the second undefined without
  at::Tensor position_embeddings_;               // [1, special tokens + grid², D]
  at::Tensor patch_weight_, patch_bias_;         // [D, 3, patch, patch], [D]
  std::shared_ptr<nn::Dropout> dropout_;
  std::shared_ptr<nn::Transformer> layers_;
  std::shared_ptr<nn::LayerNorm> norm_;
};

}  // namespace mmkd
