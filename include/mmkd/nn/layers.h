#pragma once
#include <ATen/ATen.h>
#include <torch/nn/module.h>

#include <cstdint>
#include <string>
#include <vector>

#include "mmkd/nn/weight_entry.h"

// Layers with parameters. All are made with uninitialised values: nn::initialize() or a checkpoint fills them.
// Weights are named `prefix` + "weight" and `prefix` + "bias"; the prefix brings its separator along.
namespace mmkd::nn {

/// x Wᵀ + b over the last dimension: […, in] -> […, out].
class Linear : public torch::nn::Module {
 public:
  Linear(std::int64_t inputs, std::int64_t outputs, bool with_bias = true);
  at::Tensor forward(const at::Tensor& x) const;
  void collect_weights(const std::string& prefix, const InitScheme& scheme, std::vector<WeightEntry>& entries) const;

  at::Tensor weight;  ///< [out, in]
  at::Tensor bias;    ///< [out]; undefined without
};

/// Normalises the last dimension to mean 0 and variance 1, then scales and shifts it.
class LayerNorm : public torch::nn::Module {
 public:
  LayerNorm(std::int64_t width, double eps);
  at::Tensor forward(const at::Tensor& x) const;
  void collect_weights(const std::string& prefix, std::vector<WeightEntry>& entries) const;

  double eps() const { return eps_; }

  at::Tensor weight, bias;  ///< [width]

 private:
  double eps_;
};

}  // namespace mmkd::nn
