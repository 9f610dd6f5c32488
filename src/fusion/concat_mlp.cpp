#include "fusions.h"
#include "mmkd/base/error.h"
#include "mmkd/nn/activation.h"
#include "mmkd/nn/dropout.h"
#include "mmkd/nn/layers.h"

namespace mmkd {
namespace {

class ConcatMlpFusion final : public Fusion {
 public:
  explicit ConcatMlpFusion(const FusionSpec& spec) {
    if (spec.layers < 1 || spec.hidden_mult < 1) {
      throw UsageError("fusion: concat_mlp needs at least one layer and hidden_mult of at least 1, found {} and {}",
                       spec.layers, spec.hidden_mult);
    }
    std::int64_t inputs = 2 * spec.dim;
    for (std::int64_t i = 0; i < spec.layers; ++i) {
      const bool last = i + 1 == spec.layers;
      const std::int64_t outputs = last ? spec.dim : spec.hidden_mult * spec.dim;
      linears_.push_back(register_module("linear" + std::to_string(i), std::make_shared<nn::Linear>(inputs, outputs)));
      if (!last) {
        dropouts_.push_back(
            register_module("dropout" + std::to_string(i), std::make_shared<nn::Dropout>(spec.dropout)));
      }
      inputs = outputs;
    }
  }

  FusionOutput forward(const at::Tensor& v, const at::Tensor& t, const nn::ForwardContext& context) const override {
    at::Tensor x = at::cat({v, t}, 1);  // [B, 2D]
    for (std::size_t i = 0; i < dropouts_.size(); ++i) {
      x = dropouts_[i]->forward(nn::activate(nn::Activation::gelu_erf, linears_[i]->forward(x)), context);
    }
    return {linears_.back()->forward(x), {}, {}};
  }

  void collect_weights(const std::string& prefix, std::vector<nn::WeightEntry>& entries) const override {
    // In the equivalent Sequential each hidden layer is three modules: linear, GELU, dropout.
    for (std::size_t i = 0; i < linears_.size(); ++i) {
      linears_[i]->collect_weights(prefix + "mlp." + std::to_string(3 * i) + ".", nn::InitScheme::torch(), entries);
    }
  }

 private:
  std::vector<std::shared_ptr<nn::Linear>> linears_;
  std::vector<std::shared_ptr<nn::Dropout>> dropouts_;
};

}  // namespace

std::shared_ptr<Fusion> make_concat_mlp_fusion(const FusionSpec& spec) {
  return std::make_shared<ConcatMlpFusion>(spec);
}

}  // namespace mmkd
