#include "fusions.h"

namespace mmkd {
namespace {

using namespace fusion_parts;

constexpr double kConfident = 0.6;  // a modality with more weight than this is trusted, and the router decides
constexpr std::int64_t kSoftRoute = 3;

class ShomrFusion final : public Fusion {
 public:
  explicit ShomrFusion(const FusionSpec& spec) : spec_(spec) {
    const std::int64_t d = spec.dim;
    using Dropouts = TwoLayers::Dropouts;
    const auto two = [&](const char* name, const TwoLayers::Sizes& sizes, Dropouts dropouts) {
      return register_module(name, std::make_shared<TwoLayers>(sizes, dropouts, spec.dropout));
    };
    conf_net_ = two("conf_net", {2 * d, d, 2}, Dropouts::between);
    router_ = two("router", {2 * d, d, 3}, Dropouts::between);
    gate_ = register_module("gate", std::make_shared<nn::Linear>(2 * d, d));
    attention_ = register_module("attn", std::make_shared<TokenAttention>(spec));
    norm1_ = register_module("norm1", std::make_shared<nn::LayerNorm>(d, kNormEps));
    norm2_ = register_module("norm2", std::make_shared<nn::LayerNorm>(d, kNormEps));
    proj_single_ = register_module("proj_single", std::make_shared<nn::Linear>(d, d));
    // Vision and text go through the same projection, but not under the same mask.
    dropout_v_ = register_module("dropout_v", std::make_shared<nn::Dropout>(spec.dropout));
    dropout_t_ = register_module("dropout_t", std::make_shared<nn::Dropout>(spec.dropout));
    ffn_ = two("ffn", {d, 4 * d, d}, Dropouts::between_and_last);
  }

  FusionOutput forward(const at::Tensor& v, const at::Tensor& t, const nn::ForwardContext& context) const override {
    const at::Tensor both = at::cat({v, t}, 1);                                        // [B, 2D]
    const at::Tensor trust = at::softmax(wide(conf_net_->forward(both, context)), 1);  // [B, 2]
    const at::Tensor soft = trust.amax(1).le(kConfident);                              // [B]
    const auto choice = choose(router_->forward(both, context), spec_, context);
    const at::Tensor seen = attention_->mean(at::stack({v, t}, 1));
    const at::Tensor gated = mixed(at::sigmoid(gate_->forward(both)), v, t);
    const at::Tensor joint = with_ffn(norm2_->forward(gated + seen), context);
    const at::Tensor weighed = trust.narrow(1, 0, 1) * v + trust.narrow(1, 1, 1) * t;
    const at::Tensor shared = with_ffn(norm1_->forward(weighed + seen), context);
    const at::Tensor routed =
        mix(choice.weights, {alone(v, *dropout_v_, context), alone(t, *dropout_t_, context), joint});
    return {at::where(soft.unsqueeze(1), shared.to(routed.scalar_type()), routed),
            {},
            choice.route.masked_fill(soft, kSoftRoute)};
  }

  std::vector<std::string> route_names() const override { return {"image", "text", "joint", "soft"}; }

  void collect_weights(const std::string& prefix, std::vector<nn::WeightEntry>& entries) const override {
    conf_net_->collect_weights(prefix + "conf_net.", entries);
    router_->collect_weights(prefix + "router.", entries);
    gate_->collect_weights(prefix + "gate.", nn::InitScheme::torch(), entries);
    attention_->collect_weights(prefix + "attn.", entries);
    norm1_->collect_weights(prefix + "norm1.", entries);
    norm2_->collect_weights(prefix + "norm2.", entries);
    proj_single_->collect_weights(prefix + "proj_single.0.", nn::InitScheme::torch(), entries);
    ffn_->collect_weights(prefix + "ffn.", entries);
  }

 private:
  at::Tensor with_ffn(const at::Tensor& x, const nn::ForwardContext& context) const {
    return x + ffn_->forward(x, context);
  }
  at::Tensor alone(const at::Tensor& x, const nn::Dropout& dropout, const nn::ForwardContext& context) const {
    return dropout.forward(at::gelu(proj_single_->forward(x), "none"), context);
  }

  FusionSpec spec_;
  std::shared_ptr<TwoLayers> conf_net_, router_, ffn_;
  std::shared_ptr<nn::Linear> gate_, proj_single_;
  std::shared_ptr<nn::Dropout> dropout_v_, dropout_t_;
  std::shared_ptr<TokenAttention> attention_;
  std::shared_ptr<nn::LayerNorm> norm1_, norm2_;
};

}  // namespace

std::shared_ptr<Fusion> make_shomr_fusion(const FusionSpec& spec) { return std::make_shared<ShomrFusion>(spec); }

}  // namespace mmkd
