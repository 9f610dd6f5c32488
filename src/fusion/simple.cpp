#include "fusions.h"
#include "mmkd/base/error.h"
#include "mmkd/config/names.h"
#include "mmkd/nn/transformer.h"

namespace mmkd {
namespace {

nn::TransformerSpec transformer_spec(const FusionSpec& spec) {
  return {.width = spec.dim,
          .layers = spec.layers,
          .heads = spec.heads,
          .intermediate = 4 * spec.dim,
          .activation = nn::Activation::gelu_erf,
          .norm = nn::NormPlacement::after,
          .layer_norm_eps = 1e-5,
          .qkv_bias = true,
          .attention_output_dropout = spec.dropout,
          .activation_dropout = spec.dropout,
          .output_dropout = spec.dropout};
}

/// Those of torch.nn.TransformerEncoderLayer.
const nn::TransformerNames kNames{
    .attention = {.query = "", .key = "", .value = "", .fused = "self_attn.in_proj_", .output = "self_attn.out_proj."},
    .attention_norm = "norm1.",
    .feed_forward_in = "linear1.",
    .feed_forward_out = "linear2.",
    .output_norm = "norm2.",
};

/// simple and, with an embedding of the modalities, transformer_concat.
class SimpleFusion final : public Fusion {
 public:
  explicit SimpleFusion(const FusionSpec& spec) {
    if (spec.layers < 1)
      throw UsageError("fusion: {} needs at least one layer, found {}", to_string(spec.type), spec.layers);
    if (spec.type == FusionType::transformer_concat)
      modality_embedding_ = register_parameter("modality_embedding", at::empty({2, spec.dim}, at::kFloat));
    encoder_ = register_module("encoder", std::make_shared<nn::Transformer>(transformer_spec(spec), "fusion"));
  }

  FusionOutput forward(const at::Tensor& v, const at::Tensor& t, const nn::ForwardContext& context) const override {
    at::Tensor tokens = at::stack({v, t}, 1);  // [B, 2, D]
    if (modality_embedding_.defined()) tokens = tokens + modality_embedding_;
    return {encoder_->forward(tokens, {}, context).mean(1), {}, {}};
  }

  void collect_weights(const std::string& prefix, std::vector<nn::WeightEntry>& entries) const override {
    if (modality_embedding_.defined())
      add_weight(entries, prefix + "modality_embedding", modality_embedding_, nn::Init::normal(0.02));
    encoder_->collect_weights(prefix + "encoder.layers.", kNames, nn::InitScheme::torch(), entries);
  }

 private:
  at::Tensor modality_embedding_;  // [2, D]; undefined in simple
  std::shared_ptr<nn::Transformer> encoder_;
};

}  // namespace

std::shared_ptr<Fusion> make_simple_fusion(const FusionSpec& spec) { return std::make_shared<SimpleFusion>(spec); }

}  // namespace mmkd
