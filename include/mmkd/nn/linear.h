#pragma once
#include <ATen/ATen.h>

#include <memory>

// Linear layers as functions. On the CPU they are operators of our own: gradients of weights are written where they
// belong (direct_gradients.h), and for bfloat16 weights are brought into oneDNN's own form where that pays. Elsewhere
// these are at::linear.
namespace mmkd::nn {

/// x Wᵀ + b over the last dimension: x […, in], weight [out, in] float32, bias [out] float32 or undefined -> […, out].
/// Under autocast in its type, like at::linear; differentiable.
at::Tensor linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);

/// GELU (erf form) of linear(); one pass where nothing is differentiated and weights are constant.
at::Tensor linear_gelu(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);

/// linear() of GELU(x). For the gradients x is kept, and GELU is computed again: half the memory of the two apart.
at::Tensor gelu_linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);

/// While one of these lives, on its thread, the values of weights do not change: linear() without gradients then keeps
/// them in the form that it needs, and does not make it anew for each batch. They may be nested.
class ConstantWeights {
 public:
  ConstantWeights();
  ConstantWeights(const ConstantWeights&) = delete;
  ConstantWeights& operator=(const ConstantWeights&) = delete;
  ~ConstantWeights();

  struct Prepared;

 private:
  std::unique_ptr<Prepared> prepared_;  // none in a nested one: the outermost's serves
};

}  // namespace mmkd::nn
