#include "mmkd/nn/cpu_kernels.h"

#include <ATen/autocast_mode.h>

#include <utility>

#include "mmkd/base/error.h"

namespace mmkd::nn {

namespace {
thread_local bool switched_off = false;
}

bool cpu_kernels_run(at::ScalarType type) {
  if (switched_off || (type != at::kFloat && type != at::kBFloat16)) return false;
  return kernels::available(type == at::kFloat ? kernels::Element::float32 : kernels::Element::bfloat16);
}

NoCpuKernels::NoCpuKernels() : before_(std::exchange(switched_off, true)) {}
NoCpuKernels::~NoCpuKernels() { switched_off = before_; }

kernels::Element element_of(const at::Tensor& x) {
  if (x.scalar_type() == at::kFloat) return kernels::Element::float32;
  if (x.scalar_type() == at::kBFloat16) return kernels::Element::bfloat16;
  throw Error("a kernel for float32 and bfloat16 was given {}", c10::toString(x.scalar_type()));
}

at::ScalarType compute_type(const at::Tensor& x) {
  const auto device = x.device().type();
  return at::autocast::is_autocast_enabled(device) ? at::autocast::get_autocast_dtype(device) : x.scalar_type();
}

}  // namespace mmkd::nn
