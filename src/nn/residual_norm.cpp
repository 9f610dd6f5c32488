#include "mmkd/nn/residual_norm.h"

#include <ATen/Parallel.h>
#include <fmt/ranges.h>
#include <torch/autograd.h>

#include <algorithm>

#include "mmkd/base/error.h"
#include "mmkd/kernels/norm.h"
#include "mmkd/nn/cpu_kernels.h"

namespace mmkd::nn {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// T rows, D width

// Rows that are worked on as one. The sums for weight and bias are taken within these blocks, and over blocks in their
// order, so that they do not depend on the number of threads.
constexpr std::int64_t kBlockRows = 64;

template <class Body>
void for_row_blocks(std::int64_t rows, Body body) {
  const std::int64_t blocks = (rows + kBlockRows - 1) / kBlockRows;
  at::parallel_for(0, blocks, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t block = begin; block < end; ++block)
      body(block, block * kBlockRows, std::min(kBlockRows, rows - block * kBlockRows));
  });
}

/// Row `row` of x, or none.
void* at_row(const at::Tensor& x, std::int64_t row) {
  if (!x.defined()) return nullptr;
  return static_cast<char*>(x.data_ptr()) + row * x.size(-1) * static_cast<std::int64_t>(x.element_size());
}
kernels::Matrix matrix(const at::Tensor& x, std::int64_t row) {
  return {at_row(x, row), x.defined() ? element_of(x) : kernels::Element::float32};
}
kernels::ConstMatrix const_matrix(const at::Tensor& x, std::int64_t row) {
  return {at_row(x, row), x.defined() ? element_of(x) : kernels::Element::float32};
}
float* floats(const at::Tensor& x, std::int64_t row) { return static_cast<float*>(at_row(x, row)); }

at::Tensor contiguous(const at::Tensor& x) { return x.defined() ? x.contiguous() : x; }

struct ResidualNorm : torch::autograd::Function<ResidualNorm> {
  /// {normed, the sum or the normed rows as float32}; the second only where it is another tensor than an input or the
  /// first output.
  static variable_list forward(AutogradContext* context, const at::Tensor& residual_in,
                               const std::optional<at::Tensor>& branch_in, const at::Tensor& weight,
                               const at::Tensor& bias, double eps, bool keep_sum, at::ScalarType type) {
    const at::Tensor residual = residual_in.contiguous(), branch = contiguous(branch_in.value_or(at::Tensor()));
    const std::int64_t rows = residual.size(0);
    const at::Tensor sum = branch.defined() ? at::empty_like(residual) : residual;
    const at::Tensor normed = at::empty(residual.sizes(), residual.options().dtype(type));
    const bool wants_float = !keep_sum && type != at::kFloat;
    const at::Tensor normed_float = wants_float ? at::empty_like(residual) : at::Tensor();
    const at::Tensor mean = at::empty({rows, 1}, residual.options()), rstd = at::empty_like(mean);
    const kernels::NormParameters parameters{residual.size(1), static_cast<float>(eps), floats(weight.detach(), 0),
                                             floats(bias.detach(), 0)};
    for_row_blocks(rows, [&](std::int64_t /*block*/, std::int64_t first, std::int64_t count) {
      kernels::residual_norm_forward(parameters, count, floats(residual, first), const_matrix(branch, first),
                                     floats(sum, first), matrix(normed, first), matrix(normed_float, first),
                                     floats(mean, first), floats(rstd, first));
    });
    context->set_materialize_grads(false);
    context->saved_data["eps"] = eps;
    context->saved_data["keep_sum"] = keep_sum;
    context->saved_data["branch_type"] = branch.defined() ? static_cast<std::int64_t>(branch.scalar_type()) : -1;
    const bool returns_sum = keep_sum && branch.defined();
    // The sum may be an output or an input: save_for_backward tells them apart.
    context->save_for_backward({sum, mean, rstd, weight, bias});
    if (returns_sum) return {normed, sum};
    if (wants_float) return {normed, normed_float};
    return {normed};
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const at::Tensor &sum = saved[0], &weight = saved[3], &bias = saved[4];
    const bool keep_sum = context->saved_data["keep_sum"].toBool();
    const auto branch_type = context->saved_data["branch_type"].toInt();
    const at::Tensor of_normed = contiguous(gradients[0]);
    const at::Tensor second = gradients.size() > 1 ? contiguous(gradients[1]) : at::Tensor();
    const at::Tensor of_sum = keep_sum ? second : at::Tensor(), of_float = keep_sum ? at::Tensor() : second;
    const std::int64_t rows = sum.size(0), width = sum.size(1), blocks = (rows + kBlockRows - 1) / kBlockRows;
    const at::Tensor residual = at::empty_like(sum);
    const bool narrow = branch_type == static_cast<std::int64_t>(at::kBFloat16);
    const at::Tensor branch = narrow ? at::empty(sum.sizes(), sum.options().dtype(at::kBFloat16)) : at::Tensor();
    const at::Tensor partial = at::zeros({blocks, 2, width}, sum.options());
    const kernels::NormParameters parameters{width, static_cast<float>(context->saved_data["eps"].toDouble()),
                                             floats(weight.detach(), 0), floats(bias.detach(), 0)};
    for_row_blocks(rows, [&](std::int64_t block, std::int64_t first, std::int64_t count) {
      float* sums = partial.mutable_data_ptr<float>() + block * 2 * width;
      kernels::residual_norm_backward(
          parameters, count, {floats(sum, first), floats(saved[1], first), floats(saved[2], first)},
          {const_matrix(of_normed, first), const_matrix(of_float, first), floats(of_sum, first)},
          floats(residual, first), matrix(branch, first), sums, sums + width);
    });
    const at::Tensor totals = partial.sum(0);
    at::Tensor of_branch;
    if (branch_type >= 0) of_branch = narrow ? branch : residual;
    return {residual, of_branch, totals[0], totals[1], at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

ResidualNormOutput by_operators(const at::Tensor& residual, const at::Tensor& branch, const LayerNorm& norm, Keep keep,
                                at::ScalarType type) {
  const at::Tensor sum = branch.defined() ? residual + branch : residual;
  const at::Tensor normed = norm.forward(sum);
  if (keep == Keep::sum) return {sum, normed.to(type), {}};
  return {{}, normed.to(type), normed.to(at::kFloat)};
}

}  // namespace

ResidualNormOutput residual_norm(const at::Tensor& residual, const at::Tensor& branch, const LayerNorm& norm, Keep keep,
                                 at::ScalarType type) {
  const std::int64_t width = norm.weight.size(0);
  constexpr std::int64_t kMultiple = 16;
  if (residual.scalar_type() != at::kFloat || residual.dim() != 2 || residual.size(1) != width ||
      width % kMultiple != 0 || (branch.defined() && branch.sizes() != residual.sizes())) {
    throw Error("residual norm: [T, {}] float32 and a branch of that shape are needed, found {} [{}]", width,
                c10::toString(residual.scalar_type()), fmt::join(residual.sizes(), ", "));
  }
  const bool has_kernels = cpu_kernels_run(type) && (!branch.defined() || cpu_kernels_run(branch.scalar_type()));
  if (!residual.is_cpu() || !has_kernels) return by_operators(residual, branch, norm, keep, type);
  const auto outputs = ResidualNorm::apply(residual, branch.defined() ? std::optional(branch) : std::nullopt,
                                           norm.weight, norm.bias, norm.eps(), keep == Keep::sum, type);
  if (keep == Keep::sum) return {branch.defined() ? outputs[1] : residual, outputs[0], {}};
  return {{}, outputs[0], outputs.size() > 1 ? outputs[1] : outputs[0]};
}

}  // namespace mmkd::nn
