#pragma once
#include <ATen/ATen.h>

#include "mmkd/kernels/element.h"

namespace mmkd::nn {

/// Whether the kernels of our own (mmkd/kernels) are to be used for elements of `type`.
bool cpu_kernels_run(at::ScalarType type);

/// While one lives, on its thread, they are not: what counts operations sees PyTorch's.
class NoCpuKernels {
 public:
  NoCpuKernels();
  NoCpuKernels(const NoCpuKernels&) = delete;
  NoCpuKernels& operator=(const NoCpuKernels&) = delete;
  ~NoCpuKernels();

 private:
  bool before_;
};

/// float32 or bfloat16; Error for other types.
kernels::Element element_of(const at::Tensor& x);

/// The type that linear layers compute in for inputs like `x`: under autocast what that says, otherwise that of x.
at::ScalarType compute_type(const at::Tensor& x);

}  // namespace mmkd::nn
