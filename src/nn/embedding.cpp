#include "mmkd/nn/embedding.h"

#include <torch/autograd.h>

#include "mmkd/nn/direct_gradients.h"

namespace mmkd::nn {
namespace {

constexpr std::int64_t kNoPadding = -1;  // as PyTorch says it

struct Embedding : torch::autograd::Function<Embedding> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& weight, const at::Tensor& ids,
                            std::int64_t padding) {
    context->save_for_backward({weight, ids});
    context->saved_data["padding"] = padding;
    return at::embedding(weight, ids, padding);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const at::Tensor &weight = saved[0], ids = saved[1].contiguous();
    const std::int64_t padding = context->saved_data["padding"].toInt();
    at::Tensor of_weight;
    if (const auto target = direct_gradient_of_rows(weight, ids)) {
      add_rows(gradients[0].to(at::kFloat).reshape({-1, weight.size(1)}).contiguous(), ids, *target, padding);
    } else {
      of_weight = at::embedding_backward(gradients[0], ids, weight.size(0), padding, /*scale_grad_by_freq=*/false,
                                         /*sparse=*/false);
    }
    return {of_weight, at::Tensor(), at::Tensor()};
  }
};

}  // namespace

at::Tensor embedding(const at::Tensor& weight, const at::Tensor& ids, std::optional<std::int64_t> padding) {
  if (!weight.is_cpu()) return at::embedding(weight, ids, padding.value_or(kNoPadding));
  return Embedding::apply(weight, ids, padding.value_or(kNoPadding));
}

}  // namespace mmkd::nn
