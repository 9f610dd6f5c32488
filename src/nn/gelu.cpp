#include "mmkd/nn/gelu.h"

#include <ATen/Parallel.h>
#include <torch/autograd.h>

#include "mmkd/kernels/norm.h"
#include "mmkd/nn/cpu_kernels.h"

namespace mmkd::nn {
namespace {

/// body(offset in bytes, elements) over parts of x, in parallel.
template <class Body>
void for_elements(const at::Tensor& x, Body body) {
  constexpr std::int64_t kGrain = 16384;  // elements
  const auto size = static_cast<std::int64_t>(x.element_size());
  at::parallel_for(0, x.numel(), kGrain,
                   [&](std::int64_t begin, std::int64_t end) { body(begin * size, end - begin); });
}

const char* bytes_of(const at::Tensor& x) { return static_cast<const char*>(x.const_data_ptr()); }
char* writable_bytes_of(const at::Tensor& x) { return static_cast<char*>(x.data_ptr()); }

/// `values` undefined: not wanted.
void backward_pass(const at::Tensor& x, const at::Tensor& gradient, const at::Tensor& values) {
  char* const to = writable_bytes_of(gradient);
  char* const again = values.defined() ? writable_bytes_of(values) : nullptr;
  for_elements(x, [&](std::int64_t offset, std::int64_t count) {
    kernels::gelu_backward(element_of(x), bytes_of(x) + offset, to + offset, to + offset,
                           again == nullptr ? nullptr : again + offset, count);
  });
}

struct FastGelu : torch::autograd::Function<FastGelu> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& input) {
    const at::Tensor x = input.contiguous();
    context->save_for_backward({x});
    return gelu_values(x);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    const at::Tensor x = context->get_saved_variables()[0];
    at::Tensor gradient = gradients[0].to(x.scalar_type(), /*non_blocking=*/false, /*copy=*/true).contiguous();
    gelu_gradient(x, gradient);
    return {gradient};
  }
};

}  // namespace

bool fast_gelu_runs(const at::Tensor& x) { return x.is_cpu() && cpu_kernels_run(x.scalar_type()); }

at::Tensor fast_gelu(const at::Tensor& x) { return FastGelu::apply(x); }

at::Tensor gelu_values(const at::Tensor& x) {
  const at::Tensor values = at::empty_like(x);
  for_elements(x, [&](std::int64_t offset, std::int64_t count) {
    kernels::gelu_forward(element_of(x), bytes_of(x) + offset, writable_bytes_of(values) + offset, count);
  });
  return values;
}

void gelu_gradient(const at::Tensor& x, at::Tensor& gradient) { backward_pass(x, gradient, at::Tensor()); }

at::Tensor gelu_gradient_and_values(const at::Tensor& x, at::Tensor& gradient) {
  const at::Tensor values = at::empty_like(x);
  backward_pass(x, gradient, values);
  return values;
}

}  // namespace mmkd::nn
