#include "mmkd/nn/layers.h"

#include "mmkd/nn/linear.h"

namespace mmkd::nn {

Linear::Linear(std::int64_t inputs, std::int64_t outputs, bool with_bias) {
  weight = register_parameter("weight", at::empty({outputs, inputs}, at::kFloat));
  if (with_bias) bias = register_parameter("bias", at::empty({outputs}, at::kFloat));
}

at::Tensor Linear::forward(const at::Tensor& x) const { return nn::linear(x, weight, bias); }

void Linear::collect_weights(const std::string& prefix, const InitScheme& scheme,
                             std::vector<WeightEntry>& entries) const {
  const Init of_torch = Init::fan_in(weight.size(1));
  add_weight(entries, prefix + "weight", weight, scheme.normal_std ? Init::normal(*scheme.normal_std) : of_torch);
  if (bias.defined()) add_weight(entries, prefix + "bias", bias, scheme.normal_std ? Init::zeros() : of_torch);
}

LayerNorm::LayerNorm(std::int64_t width, double eps) : eps_(eps) {
  weight = register_parameter("weight", at::empty({width}, at::kFloat));
  bias = register_parameter("bias", at::empty({width}, at::kFloat));
}

at::Tensor LayerNorm::forward(const at::Tensor& x) const {
  return at::layer_norm(x, weight.sizes(), weight, bias, eps_, /*cudnn_enable=*/true);
}

void LayerNorm::collect_weights(const std::string& prefix, std::vector<WeightEntry>& entries) const {
  add_weight(entries, prefix + "weight", weight, Init::ones());
  add_weight(entries, prefix + "bias", bias, Init::zeros());
}

}  // namespace mmkd::nn
