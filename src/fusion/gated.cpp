#include "fusions.h"
#include "mmkd/nn/layers.h"

namespace mmkd {
namespace {

class GatedFusion final : public Fusion {
 public:
  explicit GatedFusion(const FusionSpec& spec) {
    gate_ = register_module("gate", std::make_shared<nn::Linear>(2 * spec.dim, spec.dim));
  }

  FusionOutput forward(const at::Tensor& v, const at::Tensor& t, const nn::ForwardContext&) const override {
    const at::Tensor share = at::sigmoid(gate_->forward(at::cat({v, t}, 1)));  // [B, D] of v
    return {share * v + (1 - share) * t, {}};
  }

  void collect_weights(const std::string& prefix, std::vector<nn::WeightEntry>& entries) const override {
    gate_->collect_weights(prefix + "gate.", nn::InitScheme::torch(), entries);
  }

 private:
  std::shared_ptr<nn::Linear> gate_;
};

}  // namespace

std::shared_ptr<Fusion> make_gated_fusion(const FusionSpec& spec) { return std::make_shared<GatedFusion>(spec); }

}  // namespace mmkd
