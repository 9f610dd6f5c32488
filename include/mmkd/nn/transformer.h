#pragma once
#include <ATen/ATen.h>
#include <torch/nn/module.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "mmkd/nn/activation.h"
#include "mmkd/nn/attention.h"
#include "mmkd/nn/context.h"
#include "mmkd/nn/dropout.h"
#include "mmkd/nn/layers.h"

namespace mmkd::nn {

/// Where the layer norms sit: before each sublayer (ViT), or after each residual sum (BERT).
enum class NormPlacement { before, after };

struct TransformerSpec {
  std::int64_t width = 0;         ///< D
  std::int64_t layers = 0;        ///< 0: the input passes unchanged
  std::int64_t heads = 0;         ///< divides width
  std::int64_t intermediate = 0;  ///< width of the feed-forward layer
  Activation activation = Activation::gelu_erf;
  NormPlacement norm = NormPlacement::before;
  double layer_norm_eps = 1e-12;
  bool qkv_bias = true;
  // Chances to drop; 0 disables.
  double attention_output_dropout = 0;  ///< after the attention's output projection
  double activation_dropout = 0;        ///< inside the feed-forward layer
  double output_dropout = 0;            ///< after the feed-forward layer
};

/// Beginnings of the names of one layer's weights, separator included.
struct TransformerNames {
  AttentionNames attention;
  std::string attention_norm, feed_forward_in, feed_forward_out, output_norm;
};

/// Attention and feed-forward layer, each with a residual.
class TransformerLayer : public torch::nn::Module {
 public:
  explicit TransformerLayer(const TransformerSpec& spec);
  /// x [B, N, D], mask as in SelfAttention -> [B, N, D]
  at::Tensor forward(const at::Tensor& x, const at::Tensor& mask, const ForwardContext& context) const;
  /// Row 0 of forward(): [B, 1, D], for about a sixth of the work.
  at::Tensor forward_first(const at::Tensor& x, const at::Tensor& mask, const ForwardContext& context) const;
  /// Packed tokens between two layers, float32 [T, D].
  struct Stream {
    at::Tensor x;
    at::Tensor pending;  ///< norms before: what is still to be added to x, in any type; undefined: nothing
    at::Tensor narrow;   ///< norms behind: x in the type that linear layers compute in; undefined: x itself
  };
  Stream forward(const Stream& in, const TokenLayout& layout, const ForwardContext& context) const;
  /// Of the first token of each sample alone, [B, D].
  at::Tensor forward_first(const Stream& in, const TokenLayout& layout, const ForwardContext& context) const;
  bool serves_packed(const at::Tensor& x) const { return attention_->serves_packed(x); }
  void collect_weights(const std::string& prefix, const TransformerNames& names, const InitScheme& scheme,
                       std::vector<WeightEntry>& entries) const;

 private:
  at::Tensor attention_input(const at::Tensor& x) const;
  at::Tensor feed_forward(const at::Tensor& x, const TokenLayout* layout, const ForwardContext& context) const;
  at::Tensor finish(const at::Tensor& x, const at::Tensor& attended, const ForwardContext& context) const;
  Stream finish(const at::Tensor& x, const at::Tensor& attended, const TokenLayout& layout,
                const ForwardContext& context) const;

  NormPlacement norm_;
  Activation activation_;
  std::shared_ptr<SelfAttention> attention_;
  std::shared_ptr<Linear> feed_forward_in_, feed_forward_out_;
  std::shared_ptr<LayerNorm> attention_norm_, output_norm_;
  std::shared_ptr<Dropout> attention_output_dropout_, activation_dropout_, output_dropout_;
};

/// A stack of layers, without a norm of its own behind them.
class Transformer : public torch::nn::Module {
 public:
  /// Throws Error, starting with `where`, for sizes that are not positive and heads that do not divide the width.
  Transformer(const TransformerSpec& spec, const std::string& where);
  /// x [B, N, D], mask as in SelfAttention -> [B, N, D]
  at::Tensor forward(at::Tensor x, const at::Tensor& mask, const ForwardContext& context) const;
  /// Row 0 of forward(), [B, D]: the last layer computes nothing for the other tokens.
  at::Tensor forward_first(at::Tensor x, const at::Tensor& mask, const ForwardContext& context) const;
  /// Both of packed tokens: x [T, D] -> [T, D], [B, D]. Only where serves_packed(x).
  at::Tensor forward(const at::Tensor& x, const TokenLayout& layout, const ForwardContext& context) const;
  at::Tensor forward_first(const at::Tensor& x, const TokenLayout& layout, const ForwardContext& context) const;
  /// Whether this machine has a kernel for packed tokens like `x` (packed_attention.h).
  bool serves_packed(const at::Tensor& x) const { return !layers_.empty() && layers_[0]->serves_packed(x); }
  /// Names are `prefix` + number of the layer + "." + the names of its weights.
  void collect_weights(const std::string& prefix, const TransformerNames& names, const InitScheme& scheme,
                       std::vector<WeightEntry>& entries) const;

 private:
  /// The first `layers` of them.
  TransformerLayer::Stream run(const at::Tensor& x, std::size_t layers, const TokenLayout& layout,
                               const ForwardContext& context) const;
  std::vector<std::shared_ptr<TransformerLayer>> layers_;
};

}  // namespace mmkd::nn
