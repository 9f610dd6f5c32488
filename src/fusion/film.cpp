#include "fusions.h"

namespace mmkd {
namespace {

class FilmFusion final : public Fusion {
 public:
  explicit FilmFusion(const FusionSpec& spec) {
    gamma_ = register_module("gamma", std::make_shared<nn::Linear>(spec.dim, spec.dim));
    beta_ = register_module("beta", std::make_shared<nn::Linear>(spec.dim, spec.dim));
  }

  FusionOutput forward(const at::Tensor& v, const at::Tensor& t, const nn::ForwardContext&) const override {
    return {gamma_->forward(t) * v + beta_->forward(t), {}, {}};
  }

  void collect_weights(const std::string& prefix, std::vector<nn::WeightEntry>& entries) const override {
    gamma_->collect_weights(prefix + "gamma.", nn::InitScheme::torch(), entries);
    beta_->collect_weights(prefix + "beta.", nn::InitScheme::torch(), entries);
  }

 private:
  std::shared_ptr<nn::Linear> gamma_, beta_;
};

}  // namespace

std::shared_ptr<Fusion> make_film_fusion(const FusionSpec& spec) { return std::make_shared<FilmFusion>(spec); }

}  // namespace mmkd
