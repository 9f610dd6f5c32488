#include "fusions.h"
#include "mmkd/base/error.h"
#include "mmkd/nn/noise.h"

namespace mmkd {
namespace {

using namespace fusion_parts;

class ModalityDropoutFusion final : public Fusion {
 public:
  explicit ModalityDropoutFusion(const FusionSpec& spec) : p_img_(spec.p_img), p_txt_(spec.p_txt) {
    if (!(p_img_ >= 0 && p_txt_ >= 0 && p_img_ + p_txt_ <= 1))
      throw UsageError("fusion: p_img {} and p_txt {} must not be negative, nor more than 1 together", p_img_, p_txt_);
    mlp_ = register_module("mlp", std::make_shared<TwoLayers>(TwoLayers::Sizes{2 * spec.dim, spec.dim, spec.dim},
                                                              TwoLayers::Dropouts::none, 0, /*relu=*/true));
  }

  FusionOutput forward(const at::Tensor& v, const at::Tensor& t, const nn::ForwardContext& context) const override {
    if (!context.training || p_img_ + p_txt_ == 0) return {mlp_->forward(at::cat({v, t}, 1), context), {}, {}};
    const at::Tensor u = nn::keyed_uniform(1, RngPurpose::modality, 0, context, v.device());  // [B, 1]
    // One number decides both, so that never both are dropped.
    const at::Tensor keep_v = u.ge(p_img_).to(v.scalar_type());
    const at::Tensor keep_t = at::logical_or(u.lt(p_img_), u.ge(p_img_ + p_txt_)).to(t.scalar_type());
    return {mlp_->forward(at::cat({v * keep_v, t * keep_t}, 1), context), {}, {}};
  }

  void collect_weights(const std::string& prefix, std::vector<nn::WeightEntry>& entries) const override {
    mlp_->collect_weights(prefix + "mlp.", entries);
  }

 private:
  double p_img_, p_txt_;
  std::shared_ptr<TwoLayers> mlp_;
};

}  // namespace

std::shared_ptr<Fusion> make_modality_dropout_fusion(const FusionSpec& spec) {
  return std::make_shared<ModalityDropoutFusion>(spec);
}

}  // namespace mmkd
