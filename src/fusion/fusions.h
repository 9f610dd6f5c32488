#pragma once
#include "mmkd/fusion/fusion.h"
#include "mmkd/nn/attention.h"
#include "mmkd/nn/dropout.h"
#include "mmkd/nn/layers.h"

// One file each; the factory is the only one that includes all. B batch, D fusion width, R routes.
namespace mmkd {

std::shared_ptr<Fusion> make_simple_fusion(const FusionSpec& spec);
std::shared_ptr<Fusion> make_concat_mlp_fusion(const FusionSpec& spec);
std::shared_ptr<Fusion> make_cross_attention_fusion(const FusionSpec& spec);
std::shared_ptr<Fusion> make_gated_fusion(const FusionSpec& spec);
std::shared_ptr<Fusion> make_film_fusion(const FusionSpec& spec);
std::shared_ptr<Fusion> make_modality_dropout_fusion(const FusionSpec& spec);
std::shared_ptr<Fusion> make_energy_aware_fusion(const FusionSpec& spec);
std::shared_ptr<Fusion> make_shomr_fusion(const FusionSpec& spec);

namespace fusion_parts {

inline constexpr double kNormEps = 1e-5;

/// In float32 at least: what softmaxes and comparisons of routers see.
at::Tensor wide(const at::Tensor& x);

/// s·v + (1 - s)·t
at::Tensor mixed(const at::Tensor& share, const at::Tensor& v, const at::Tensor& t);

/// Throws UsageError unless the heads divide the width.
void check_heads(const FusionSpec& spec);

/// PyTorch's MultiheadAttention over the two tokens of a sample.
class TokenAttention : public torch::nn::Module {
 public:
  explicit TokenAttention(const FusionSpec& spec);
  /// [B, 2, D] -> [B, D], the mean over the tokens
  at::Tensor mean(const at::Tensor& tokens) const;
  /// queries [B, D], tokens [B, 2, D] -> [B, D]
  at::Tensor ask(const at::Tensor& queries, const at::Tensor& tokens) const;
  void collect_weights(const std::string& prefix, std::vector<nn::WeightEntry>& entries) const;

 private:
  std::shared_ptr<nn::SelfAttention> attention_;
};

/// Two linear layers with an activation, and dropout where `dropout` says so, between (and, if `last`, behind) them.
class TwoLayers : public torch::nn::Module {
 public:
  struct Sizes {
    std::int64_t inputs = 0, hidden = 0, outputs = 0;
  };
  enum class Dropouts { none, between, between_and_last };
  TwoLayers(const Sizes& sizes, Dropouts dropouts, double probability, bool relu = false);
  at::Tensor forward(const at::Tensor& x, const nn::ForwardContext& context) const;
  /// `prefix` + "0." and "2.", or "3." with a dropout between: numbers count every element of a Sequential.
  void collect_weights(const std::string& prefix, std::vector<nn::WeightEntry>& entries) const;

 private:
  Dropouts dropouts_;
  bool relu_;
  std::shared_ptr<nn::Linear> first_, second_;
  std::shared_ptr<nn::Dropout> between_, last_;
};

/// The route of each sample as weights of the branches.
struct Choice {
  at::Tensor route;    ///< [B] int64
  at::Tensor weights;  ///< [B, R], one-hot in value; with straight_through in training the gradient is the softmax's
};
Choice choose(const at::Tensor& logits, const FusionSpec& spec, const nn::ForwardContext& context);

/// Σ_r weights[:, r] · branches[r]
at::Tensor mix(const at::Tensor& weights, const std::vector<at::Tensor>& branches);

}  // namespace fusion_parts
}  // namespace mmkd
