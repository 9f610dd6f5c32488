#include "mobile_blocks.h"

#include <algorithm>
#include <cmath>

namespace mmkd {

std::int64_t make_divisible(std::int64_t value, std::int64_t divisor, std::int64_t smallest) {
  const auto halved = static_cast<std::int64_t>(static_cast<double>(value) + static_cast<double>(divisor) / 2);
  const std::int64_t result = std::max(smallest > 0 ? smallest : divisor, halved / divisor * divisor);
  const bool too_small = static_cast<double>(result) < 0.9 * static_cast<double>(value);
  return too_small ? result + divisor : result;
}

std::int64_t round_half_even(double value) { return static_cast<std::int64_t>(std::nearbyint(value)); }

nn::ConvSpec MobileSpec::conv(std::int64_t inputs, std::int64_t outputs, std::int64_t kernel,
                              std::int64_t stride) const {
  return {.inputs = inputs,
          .outputs = outputs,
          .kernel = kernel,
          .stride = stride,
          .tf_padding = tf_padding,
          .batch_norm_eps = batch_norm_eps,
          .batch_norm = batch_norm,
          .activation = activation};
}

nn::ConvSpec MobileSpec::depthwise(std::int64_t channels, std::int64_t stride, std::int64_t dilation) const {
  auto spec = conv(channels, channels, 3, stride);
  spec.groups = channels;
  spec.dilation = dilation;
  return spec;
}

nn::ConvSpec MobileSpec::linear(std::int64_t inputs, std::int64_t outputs) const {
  auto spec = conv(inputs, outputs, 1);
  spec.activation.reset();
  return spec;
}

InvertedResidual::InvertedResidual(const MobileSpec& spec, std::int64_t inputs, std::int64_t outputs,
                                   std::int64_t stride, std::int64_t dilation)
    : residual_(stride == 1 && inputs == outputs) {
  const std::int64_t expanded =
      make_divisible(round_half_even(static_cast<double>(inputs) * spec.expand_ratio), spec.divisor, spec.smallest);
  const auto add = [&](const char* name, const nn::ConvSpec& layer) {
    return register_module(name, std::make_shared<nn::ConvLayer>(layer));
  };
  expand_ = add("expand", spec.conv(inputs, expanded, 1));
  depthwise_ = add("depthwise", spec.depthwise(expanded, stride, dilation));
  reduce_ = add("reduce", spec.linear(expanded, outputs));
}

at::Tensor InvertedResidual::forward(const at::Tensor& x, const nn::ForwardContext& context) const {
  const at::Tensor y = reduce_->forward(depthwise_->forward(expand_->forward(x, context), context), context);
  return residual_ ? x + y : y;
}

void InvertedResidual::collect_weights(const std::string& prefix, std::vector<nn::WeightEntry>& entries) const {
  expand_->collect_weights(prefix + "expand_1x1.", entries);
  depthwise_->collect_weights(prefix + "conv_3x3.", entries);
  reduce_->collect_weights(prefix + "reduce_1x1.", entries);
}

at::Tensor pooled(const at::Tensor& map) { return map.mean({2, 3}, /*keepdim=*/false, at::kFloat); }

}  // namespace mmkd
