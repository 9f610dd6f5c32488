#pragma once
#include <ATen/ATen.h>

// GELU in its erf form, x Φ(x), by kernels of our own: only where cpu_kernels_run(), for float32 and bfloat16 on the
// CPU.
namespace mmkd::nn {

/// Whether the kernels serve tensors like `x`.
bool fast_gelu_runs(const at::Tensor& x);

/// In the type of x: what at::gelu(x, "none") gives, to 2e-7 of float32. Differentiable.
at::Tensor fast_gelu(const at::Tensor& x);

// For operators that GELU is a part of; nothing is differentiated.

/// x contiguous -> the same bits as fast_gelu(x).
at::Tensor gelu_values(const at::Tensor& x);
/// `gradient`, contiguous and in the type of x, of gelu_values(x) becomes that of x, in place.
void gelu_gradient(const at::Tensor& x, at::Tensor& gradient);
/// The same, and gives gelu_values(x) once more.
at::Tensor gelu_gradient_and_values(const at::Tensor& x, at::Tensor& gradient);

}  // namespace mmkd::nn
