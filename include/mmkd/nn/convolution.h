#pragma once
#include <ATen/ATen.h>
#include <torch/nn/module.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "mmkd/config/config.h"
#include "mmkd/nn/activation.h"
#include "mmkd/nn/context.h"
#include "mmkd/nn/weight_entry.h"

// Layers of convolutional towers. B batch, C channels, H/W height and width of a map.
namespace mmkd::nn {

/// Batch normalisation over B, H and W (Ioffe and Szegedy, 2015). In training `sync` takes count, mean and variance of
/// the global batch, over all ranks and in float32 – differentiably, rows of weight 0 left out – so that results do not
/// depend on the number of ranks; `frozen` takes the running statistics, which then never change. Evaluation always
/// takes the running ones. Running variances are unbiased, momentum is 0.1, as in torch.nn.BatchNorm2d.
class BatchNorm2d : public torch::nn::Module {
 public:
  BatchNorm2d(std::int64_t channels, double eps, BatchNormMode mode);
  /// x [B, C, H, W] -> the same, float32. Collective in training with `sync` and several ranks, forward and backward.
  at::Tensor forward(const at::Tensor& x, const ForwardContext& context);
  /// `prefix` + weight, bias, running_mean, running_var
  void collect_weights(const std::string& prefix, std::vector<WeightEntry>& entries) const;

 private:
  at::Tensor over_ranks(const at::Tensor& x, const ForwardContext& context);

  at::Tensor weight_, bias_, running_mean_, running_var_;  // [C]
  double eps_;
  BatchNormMode mode_;
};

struct ConvSpec {
  std::int64_t inputs = 0, outputs = 0;  ///< channels
  std::int64_t kernel = 1, stride = 1, groups = 1, dilation = 1;
  bool tf_padding = false;               ///< TensorFlow's "same": the odd row and column go to the bottom and right
  std::optional<double> batch_norm_eps;  ///< unset: no batch norm
  BatchNormMode batch_norm = BatchNormMode::sync;
  std::optional<Activation> activation;
};

/// Convolution without bias, batch norm, activation: the unit that MobileNetV2 and MobileViT are made of. Weights are
/// `prefix` + convolution.weight and normalization.….
class ConvLayer : public torch::nn::Module {
 public:
  explicit ConvLayer(const ConvSpec& spec);
  /// x [B, inputs, H, W] -> [B, outputs, H', W']
  at::Tensor forward(const at::Tensor& x, const ForwardContext& context) const;
  void collect_weights(const std::string& prefix, std::vector<WeightEntry>& entries) const;

 private:
  ConvSpec spec_;
  at::Tensor weight_;  // [outputs, inputs / groups, kernel, kernel]
  std::shared_ptr<BatchNorm2d> norm_;
};

}  // namespace mmkd::nn
