#pragma once
#include <ATen/ATen.h>
#include <torch/nn/module.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "mmkd/nn/layers.h"
#include "mmkd/nn/token_layout.h"

namespace mmkd::nn {

/// Beginnings of the names of an attention's weights, separator included.
struct AttentionNames {
  std::string query, key, value;  ///< all empty where the checkpoint holds them as one tensor, named `fused`
  std::string fused;              ///< [3D, D] in the order query, key, value
  std::string output;
};

/// Multi-head self-attention, softmax(QKᵀ/√d)V and an output projection ("Attention is all you need", 2017), without
/// dropout of attention weights. Query, key and value are one parameter and one matrix product.
class SelfAttention : public torch::nn::Module {
 public:
  /// `width` must be a multiple of `heads`.
  SelfAttention(std::int64_t width, std::int64_t heads, bool qkv_bias);

  /// x [B, N, D]; mask [B, 1, 1, N] bool, true where a token may be attended to, or undefined: all may. -> [B, N, D]
  at::Tensor forward(const at::Tensor& x, const at::Tensor& mask) const;
  /// Other tokens ask: queries [B, M, D], x [B, N, D] -> [B, M, D], all of x being attended to.
  at::Tensor forward_queries(const at::Tensor& queries, const at::Tensor& x, const at::Tensor& mask) const;
  /// Row 0 of forward(): [B, 1, D]. Only the first token asks; all are attended to.
  at::Tensor forward_first(const at::Tensor& x, const at::Tensor& mask) const;

  /// Whether packed tokens like `x` can be served (packed_attention.h).
  bool serves_packed(const at::Tensor& x) const;
  /// forward() and forward_first() of packed tokens: x [T, D] -> [T, D], [B, D].
  at::Tensor forward(const at::Tensor& x, const TokenLayout& layout) const;
  at::Tensor forward_first(const at::Tensor& x, const TokenLayout& layout) const;

  void collect_weights(const std::string& prefix, const AttentionNames& names, const InitScheme& scheme,
                       std::vector<WeightEntry>& entries) const;

 private:
  at::Tensor attend(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                    const at::Tensor& mask) const;
  at::Tensor project(const at::Tensor& x, std::int64_t first, std::int64_t count) const;

  std::int64_t width_, heads_;
  std::shared_ptr<Linear> qkv_, output_;
};

}  // namespace mmkd::nn
