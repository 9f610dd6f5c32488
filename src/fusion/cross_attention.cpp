#include "fusions.h"

namespace mmkd {
namespace {

using namespace fusion_parts;

class CrossAttentionFusion final : public Fusion {
 public:
  explicit CrossAttentionFusion(const FusionSpec& spec) {
    norm1_ = register_module("norm1", std::make_shared<nn::LayerNorm>(spec.dim, kNormEps));
    attention_ = register_module("attn", std::make_shared<TokenAttention>(spec));
    norm2_ = register_module("norm2", std::make_shared<nn::LayerNorm>(spec.dim, kNormEps));
    ffn_ = register_module("ffn", std::make_shared<TwoLayers>(TwoLayers::Sizes{spec.dim, 4 * spec.dim, spec.dim},
                                                              TwoLayers::Dropouts::none, 0));
  }

  FusionOutput forward(const at::Tensor& v, const at::Tensor& t, const nn::ForwardContext& context) const override {
    const at::Tensor tokens = at::stack({v, t}, 1);  // [B, 2, D]
    const at::Tensor x = attention_->ask(norm1_->forward(tokens.mean(1)), tokens);
    return {x + ffn_->forward(norm2_->forward(x), context), {}, {}};
  }

  void collect_weights(const std::string& prefix, std::vector<nn::WeightEntry>& entries) const override {
    norm1_->collect_weights(prefix + "norm1.", entries);
    attention_->collect_weights(prefix + "attn.", entries);
    norm2_->collect_weights(prefix + "norm2.", entries);
    ffn_->collect_weights(prefix + "ffn.", entries);
  }

 private:
  std::shared_ptr<nn::LayerNorm> norm1_, norm2_;
  std::shared_ptr<TokenAttention> attention_;
  std::shared_ptr<TwoLayers> ffn_;
};

}  // namespace

std::shared_ptr<Fusion> make_cross_attention_fusion(const FusionSpec& spec) {
  return std::make_shared<CrossAttentionFusion>(spec);
}

}  // namespace mmkd
