#include <array>

#include "fusions.h"

namespace mmkd {
namespace {

using namespace fusion_parts;

// Of the original system: energy of the image route, the text route and the joint one; what a batch may use on average;
// weight of what goes beyond.
constexpr std::array<float, 3> kRouteEnergy{3.2F, 4.1F, 9.8F};
constexpr double kEnergyBudget = 8.0;
constexpr double kPenaltyWeight = 0.01;

class EnergyAwareFusion final : public Fusion {
 public:
  explicit EnergyAwareFusion(const FusionSpec& spec) : spec_(spec) {
    const std::int64_t d = spec.dim;
    const auto none = TwoLayers::Dropouts::none;
    router_ = register_module("router", std::make_shared<TwoLayers>(TwoLayers::Sizes{2 * d, d, 3}, none, 0));
    gate_ = register_module("gate", std::make_shared<nn::Linear>(2 * d, d));
    attention_ = register_module("attn", std::make_shared<TokenAttention>(spec));
    norm_ = register_module("norm", std::make_shared<nn::LayerNorm>(d, kNormEps));
    ffn_ = register_module("ffn", std::make_shared<TwoLayers>(TwoLayers::Sizes{d, 4 * d, d}, none, 0));
  }

  FusionOutput forward(const at::Tensor& v, const at::Tensor& t, const nn::ForwardContext& context) const override {
    const at::Tensor both = at::cat({v, t}, 1);                       // [B, 2D]
    const at::Tensor logits = wide(router_->forward(both, context));  // [B, 3]
    const auto choice = choose(logits, spec_, context);
    const at::Tensor gated = mixed(at::sigmoid(gate_->forward(both)), v, t);
    const at::Tensor joint = ffn_->forward(norm_->forward(gated + attention_->mean(at::stack({v, t}, 1))), context);
    // Not at::tensor(), which copies from the host: a recorded step must not.
    const at::Tensor energies = at::empty({std::ssize(kRouteEnergy)}, logits.options());
    for (std::int64_t i = 0; i < energies.size(0); ++i) energies[i].fill_(kRouteEnergy[i]);
    return {mix(choice.weights, {v, t, joint}), at::softmax(logits, 1).matmul(energies), choice.route};
  }

  std::vector<std::string> route_names() const override { return {"image", "text", "joint"}; }
  bool has_energy() const override { return true; }

  void collect_weights(const std::string& prefix, std::vector<nn::WeightEntry>& entries) const override {
    router_->collect_weights(prefix + "router.", entries);
    gate_->collect_weights(prefix + "gate.", nn::InitScheme::torch(), entries);
    attention_->collect_weights(prefix + "attn.", entries);
    norm_->collect_weights(prefix + "norm.", entries);
    ffn_->collect_weights(prefix + "ffn.", entries);
  }

 private:
  FusionSpec spec_;
  std::shared_ptr<TwoLayers> router_, ffn_;
  std::shared_ptr<nn::Linear> gate_;
  std::shared_ptr<TokenAttention> attention_;
  std::shared_ptr<nn::LayerNorm> norm_;
};

}  // namespace

at::Tensor energy_penalty(const at::Tensor& energy) { return kPenaltyWeight * at::relu(energy.mean() - kEnergyBudget); }

std::shared_ptr<Fusion> make_energy_aware_fusion(const FusionSpec& spec) {
  return std::make_shared<EnergyAwareFusion>(spec);
}

}  // namespace mmkd
