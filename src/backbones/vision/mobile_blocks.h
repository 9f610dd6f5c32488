#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "mmkd/nn/convolution.h"

// What MobileNetV2 and MobileViT share. B batch, C channels, H/W height and width of a map.
namespace mmkd {

/// The nearest multiple of `divisor`, at least `smallest` (0: the divisor), that is not below 90 % of `value`.
std::int64_t make_divisible(std::int64_t value, std::int64_t divisor, std::int64_t smallest = 0);

/// Python's int(round(value)): halves go to the even number.
std::int64_t round_half_even(double value);

/// Settings that all blocks of a tower share.
struct MobileSpec {
  double expand_ratio = 6, batch_norm_eps = 1e-5;
  std::int64_t divisor = 8, smallest = 8;  ///< of expanded channels
  bool tf_padding = false;
  nn::Activation activation = nn::Activation::relu6;
  BatchNormMode batch_norm = BatchNormMode::sync;

  nn::ConvSpec conv(std::int64_t inputs, std::int64_t outputs, std::int64_t kernel, std::int64_t stride = 1) const;
  nn::ConvSpec depthwise(std::int64_t channels, std::int64_t stride, std::int64_t dilation) const;
  nn::ConvSpec linear(std::int64_t inputs, std::int64_t outputs) const;  ///< 1x1 without activation
};

/// 1x1 expansion, 3x3 depthwise, 1x1 reduction without activation; a residual where the shapes allow it (Sandler et
/// al., "MobileNetV2", 2018). Weights: expand_1x1, conv_3x3, reduce_1x1.
class InvertedResidual : public torch::nn::Module {
 public:
  InvertedResidual(const MobileSpec& spec, std::int64_t inputs, std::int64_t outputs, std::int64_t stride,
                   std::int64_t dilation = 1);
  /// x [B, inputs, H, W] -> [B, outputs, H / stride, W / stride]
  at::Tensor forward(const at::Tensor& x, const nn::ForwardContext& context) const;
  void collect_weights(const std::string& prefix, std::vector<nn::WeightEntry>& entries) const;

 private:
  std::shared_ptr<nn::ConvLayer> expand_, depthwise_, reduce_;
  bool residual_;
};

/// [B, C, H, W] -> [B, C] in float32, the feature that conv nets hand on.
at::Tensor pooled(const at::Tensor& map);

}  // namespace mmkd
