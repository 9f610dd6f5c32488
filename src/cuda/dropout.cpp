#include <ATen/ATen.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include <algorithm>
#include <bit>
#include <cstdint>

#include "kernels.h"

// The operator mmkd::keyed_dropout on CUDA, which mmkd/nn/dropout.h takes where this library is loaded.
namespace mmkd::cuda {
namespace {

// Parameters of the kernels, as keyed_dropout.cu has them.
struct Samples {
  const long long* keys;
  const int* offsets;
  long long count, width;
};
struct Rate {
  const long long* step;
  unsigned long long prefix, layer;
  unsigned int threshold;
  float scale;
};
static_assert(sizeof(long long) == sizeof(std::int64_t) && sizeof(int) == sizeof(std::int32_t));

/// x [rows, …] float32 or bfloat16; sample_keys [B] int64; offsets [B + 1] int32 of the rows of packed x, where each
/// sample does not have one row; step [1] int64. All contiguous, on one device.
at::Tensor keyed_dropout(const at::Tensor& x, const at::Tensor& sample_keys, const std::optional<at::Tensor>& offsets,
                         const at::Tensor& step, std::int64_t prefix, std::int64_t layer, std::int64_t threshold,
                         double scale) {
  const std::int64_t samples = sample_keys.numel();
  TORCH_CHECK(x.is_contiguous() && sample_keys.is_contiguous() && sample_keys.scalar_type() == at::kLong &&
                  sample_keys.device() == x.device() && step.device() == x.device() && step.numel() == 1 &&
                  step.scalar_type() == at::kLong,
              "keyed_dropout: contiguous tensors on one device, int64 keys and an int64 step are expected");
  TORCH_CHECK(x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16,
              "keyed_dropout: float32 or bfloat16 is expected, found ", x.scalar_type());
  TORCH_CHECK(offsets ? offsets->is_contiguous() && offsets->scalar_type() == at::kInt &&
                            offsets->device() == x.device() && offsets->numel() == samples + 1
                      : x.size(0) == samples,
              "keyed_dropout: ", samples, " samples do not fit ", x.sizes());
  const at::Tensor out = at::empty_like(x);
  if (x.numel() == 0) return out;
  const c10::cuda::CUDAGuard guard(x.device());
  const auto numbers = [](const at::Tensor& tensor) {
    return reinterpret_cast<const long long*>(tensor.const_data_ptr<std::int64_t>());
  };
  const Samples layout{numbers(sample_keys), offsets ? offsets->const_data_ptr<std::int32_t>() : nullptr, samples,
                       x.numel() / x.size(0)};
  const Rate rate{numbers(step), std::bit_cast<unsigned long long>(prefix), std::bit_cast<unsigned long long>(layer),
                  static_cast<unsigned int>(threshold), static_cast<float>(scale)};
  const void* in = x.const_data_ptr();
  void* to = out.mutable_data_ptr();
  // Of the mean sample; longer ones take more turns.
  constexpr std::int64_t kThreads = 128, kElements = 8 * kThreads, kMostSamples = 65535, kMostBlocks = 4096;
  const std::int64_t blocks = (x.numel() / samples + kElements - 1) / kElements;
  const dim3 grid(static_cast<unsigned int>(std::clamp<std::int64_t>(blocks, 1, kMostBlocks)),
                  static_cast<unsigned int>(std::min(samples, kMostSamples)));
  void* arguments[] = {&in, &to, const_cast<Samples*>(&layout), const_cast<Rate*>(&rate)};
  const auto function = kernel(x.scalar_type() == at::kFloat ? "keyed_dropout_float32" : "keyed_dropout_bfloat16");
  const auto result = cudaLaunchKernel(reinterpret_cast<const void*>(function), grid, dim3(kThreads), arguments, 0,
                                       c10::cuda::getCurrentCUDAStream().stream());
  TORCH_CHECK(result == cudaSuccess, "keyed_dropout: ", cudaGetErrorString(result));
  return out;
}

TORCH_LIBRARY_FRAGMENT(mmkd, library) {
  library.def(
      "keyed_dropout(Tensor x, Tensor sample_keys, Tensor? offsets, Tensor step, int prefix, int layer, int threshold, "
      "float scale) -> Tensor");
}
TORCH_LIBRARY_IMPL(mmkd, CUDA, library) { library.impl("keyed_dropout", keyed_dropout); }

}  // namespace
}  // namespace mmkd::cuda
