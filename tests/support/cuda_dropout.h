#pragma once
#include <ATen/ATen.h>

#include <bit>
#include <cstdint>
#include <optional>

// The dropout kernel for CUDA as C++, thread by thread. For one file of a program.
namespace mmkd::emulated {
namespace gpu {

struct Dimensions {
  unsigned int x = 1, y = 1;
};
inline Dimensions gridDim, blockDim, blockIdx, threadIdx;  // NOLINT(readability-identifier-naming): CUDA's

inline float __uint_as_float(unsigned int bits) { return std::bit_cast<float>(bits); }           // NOLINT
inline unsigned int __float_as_uint(float value) { return std::bit_cast<unsigned int>(value); }  // NOLINT

// NOLINTBEGIN(bugprone-reserved-identifier)
#define __device__
#define __global__ inline
// NOLINTEND(bugprone-reserved-identifier)
#include "src/cuda/keyed_dropout.cu"  // NOLINT(bugprone-suspicious-include)
#undef __device__
#undef __global__

template <class Kernel>
void for_each_thread(Dimensions grid, unsigned int threads, Kernel kernel) {
  gridDim = grid;
  blockDim = {threads, 1};
  for (blockIdx.y = 0; blockIdx.y < grid.y; ++blockIdx.y) {
    for (blockIdx.x = 0; blockIdx.x < grid.x; ++blockIdx.x) {
      for (threadIdx = {0, 0}; threadIdx.x < threads; ++threadIdx.x) kernel();
    }
  }
}

}  // namespace gpu

/// Arguments of the operator mmkd::keyed_dropout (src/cuda/dropout.cpp), on the CPU.
struct CudaDropoutMask {
  at::Tensor sample_keys;
  std::optional<at::Tensor> offsets;
  at::Tensor step;
  std::int64_t prefix, layer, threshold;
  double scale;
};

/// Writes to the elements of `out` that belong to samples.
inline void cuda_dropout(const at::Tensor& x, at::Tensor& out, const CudaDropoutMask& mask, gpu::Dimensions grid) {
  const auto numbers = [](const at::Tensor& tensor) {
    return reinterpret_cast<const long long*>(tensor.const_data_ptr<std::int64_t>());
  };
  const gpu::Samples samples{numbers(mask.sample_keys),
                             mask.offsets ? mask.offsets->const_data_ptr<std::int32_t>() : nullptr,
                             mask.sample_keys.numel(), x.numel() / x.size(0)};
  const gpu::Rate rate{numbers(mask.step), std::bit_cast<gpu::Bits64>(mask.prefix),
                       std::bit_cast<gpu::Bits64>(mask.layer), static_cast<gpu::Bits32>(mask.threshold),
                       static_cast<float>(mask.scale)};
  constexpr unsigned int kThreads = 128;
  gpu::for_each_thread(grid, kThreads, [&] {
    if (x.scalar_type() == at::kFloat) {
      gpu::keyed_dropout_float32(x.const_data_ptr<float>(), out.mutable_data_ptr<float>(), samples, rate);
    } else {
      gpu::keyed_dropout_bfloat16(static_cast<const gpu::Bits16*>(x.const_data_ptr()),
                                  static_cast<gpu::Bits16*>(out.data_ptr()), samples, rate);
    }
  });
}

}  // namespace mmkd::emulated
