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

// B batch, D fusion width, R routes

struct FusionSpec {
  FusionType type = FusionType::simple;
  std::int64_t dim = 512;           ///< D
  std::int64_t heads = 8;           ///< of attention, where the type has one; divides dim
  std::int64_t layers = 1;          ///< simple, transformer_concat, concat_mlp
  std::int64_t hidden_mult = 2;     ///< concat_mlp: hidden layers are hidden_mult · D wide
  double dropout = 0.1;             ///< 0 disables
  double p_img = 0.3, p_txt = 0.3;  ///< modality_dropout: chance that a sample loses that modality in training
  double temperature = 1;           ///< of the Gumbel-softmax of routed types
  Routing routing = Routing::straight_through;
};

struct FusionOutput {
  at::Tensor fused;   ///< [B, D]
  at::Tensor energy;  ///< [B] float32, expected energy of the routes; undefined if the type has none
  at::Tensor route;   ///< [B] int64, the route taken; undefined if the type has none
};

/// Turns a vector of each modality into one. X is the sequence (v, t), [v;t] their concatenation, M(X) the mean over
/// the tokens of multi-head attention of X to itself.
///
///   simple              mean over tokens of a transformer encoder on X: post-norm, GELU, feed-forward width 4D
///   transformer_concat  the same on X + modality_embedding
///   concat_mlp          (layers - 1) × [Linear -> hidden_mult·D, GELU, dropout], then Linear -> D, on [v;t]
///   cross_attention     x + ffn(norm2(x)), x = attention of norm1(mean of X) to X
///   gated               s·v + (1 - s)·t with s = sigmoid(Linear([v;t])); gated_mlp: of Linear, GELU, Linear
///   film                gamma(t)·v + beta(t)  (Perez et al., 2018)
///   modality_dropout    Linear, ReLU, Linear on [v;t]; in training v is zeroed for a share p_img of the samples, t for
///                       p_txt, never both
///   energy_aware_adaptive, shomr   routed: below
///
/// Routed types send each sample through one of several branches. Evaluation takes the most likely route. Training
/// draws the route by Gumbel-softmax (Jang et al., 2017) from numbers keyed by the sample, computes every branch and
/// mixes by the one-hot choice, so that all parameters take part on every rank; with Routing::straight_through the
/// gradient of the choice is that of the soft probabilities, with sampled it is none.
///   energy_aware_adaptive  v | t | ffn(norm(gated + M(X))); p = softmax(router([v;t])); energy = Σ p_r c_r
///   shomr                  w = softmax(conf_net([v;t])); w below 0.6: s + ffn(s), s = norm1(w_0 v + w_1 t + M(X)), the
///                          route `soft`; else by router([v;t]): P(v) | P(t) | b + ffn(b), b = norm2(gated + M(X))
///
/// Parameters have the names of the equivalent PyTorch modules.
class Fusion : public torch::nn::Module {
 public:
  /// v (vision), t (text): [B, D]. Training of routed types and of modality_dropout needs sample keys in the context.
  virtual FusionOutput forward(const at::Tensor& v, const at::Tensor& t, const nn::ForwardContext& context) const = 0;
  virtual void collect_weights(const std::string& prefix, std::vector<nn::WeightEntry>& entries) const = 0;
  /// Names of the routes by number; empty for types without.
  virtual std::vector<std::string> route_names() const { return {}; }
  /// FusionOutput::energy is there.
  virtual bool has_energy() const { return false; }
  std::vector<nn::WeightEntry> named_weights() const;
};

/// With uninitialised values: nn::initialize(named_weights()) or a checkpoint fills them. Throws UsageError for sizes
/// that cannot be built.
std::shared_ptr<Fusion> make_fusion(const FusionSpec& spec);

/// Penalty of a batch whose expected energies are [B], to be added to the loss: 0.01 · relu(mean − 8), [].
at::Tensor energy_penalty(const at::Tensor& energy);

}  // namespace mmkd
