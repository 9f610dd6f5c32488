#include "fusions.h"

namespace mmkd {
namespace {

using namespace fusion_parts;

class GatedFusion final : public Fusion {
 public:
  explicit GatedFusion(const FusionSpec& spec) {
    gate_ = register_module("gate", std::make_shared<nn::Linear>(2 * spec.dim, spec.dim));
  }

  FusionOutput forward(const at::Tensor& v, const at::Tensor& t, const nn::ForwardContext&) const override {
    return {mixed(at::sigmoid(gate_->forward(at::cat({v, t}, 1))), v, t), {}, {}};
  }

  void collect_weights(const std::string& prefix, std::vector<nn::WeightEntry>& entries) const override {
    gate_->collect_weights(prefix + "gate.", nn::InitScheme::torch(), entries);
  }

 private:
  std::shared_ptr<nn::Linear> gate_;
};

/// The gate of the original system's custom student.
class GatedMlpFusion final : public Fusion {
 public:
  explicit GatedMlpFusion(const FusionSpec& spec) {
    gate_ = register_module("gate", std::make_shared<TwoLayers>(TwoLayers::Sizes{2 * spec.dim, spec.dim, spec.dim},
                                                                TwoLayers::Dropouts::none, 0));
  }

  FusionOutput forward(const at::Tensor& v, const at::Tensor& t, const nn::ForwardContext& context) const override {
    return {mixed(at::sigmoid(gate_->forward(at::cat({v, t}, 1), context)), v, t), {}, {}};
  }

  void collect_weights(const std::string& prefix, std::vector<nn::WeightEntry>& entries) const override {
    gate_->collect_weights(prefix + "gate.", entries);
  }

 private:
  std::shared_ptr<TwoLayers> gate_;
};

}  // namespace

std::shared_ptr<Fusion> make_gated_fusion(const FusionSpec& spec) {
  if (spec.type == FusionType::gated_mlp) return std::make_shared<GatedMlpFusion>(spec);
  return std::make_shared<GatedFusion>(spec);
}

}  // namespace mmkd
