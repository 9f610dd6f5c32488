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

// B batch, D fusion width

struct FusionSpec {
  FusionType type = FusionType::simple;
  std::int64_t dim = 512;        ///< D
  std::int64_t heads = 8;        ///< of attention, where the type has one; divides dim
  std::int64_t layers = 1;       ///< simple, concat_mlp
  std::int64_t hidden_mult = 2;  ///< concat_mlp: hidden layers are hidden_mult · D wide
  double dropout = 0.1;          ///< 0 disables
};

struct FusionOutput {
  at::Tensor fused;     ///< [B, D]
  at::Tensor aux_loss;  ///< [] routing penalty; undefined if the fusion has none
};

/// Turns a vector of each modality into one. X is the sequence (v, t), [v;t] their concatenation.
///
///   simple      mean over tokens of a transformer encoder on X: post-norm, GELU, feed-forward width 4D
///   concat_mlp  (layers - 1) × [Linear -> hidden_mult·D, GELU, dropout], then Linear -> D, on [v;t]
///   gated       g·v + (1 - g)·t with g = sigmoid(Linear([v;t]))
///
/// Parameters have the names of the equivalent PyTorch modules: encoder.layers.<i>.self_attn.in_proj_weight, …; mlp.0,
/// mlp.3, …; gate.
class Fusion : public torch::nn::Module {
 public:
  /// v (vision), t (text): [B, D]
  virtual FusionOutput forward(const at::Tensor& v, const at::Tensor& t, const nn::ForwardContext& context) const = 0;
  virtual void collect_weights(const std::string& prefix, std::vector<nn::WeightEntry>& entries) const = 0;
  std::vector<nn::WeightEntry> named_weights() const;
};

/// With uninitialised values: nn::initialize(named_weights()) or a checkpoint fills them. Throws UsageError for sizes
/// that cannot be built and for types that are not available.
std::shared_ptr<Fusion> make_fusion(const FusionSpec& spec);

}  // namespace mmkd
