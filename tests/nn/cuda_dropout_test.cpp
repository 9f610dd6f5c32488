#include <gtest/gtest.h>

#include <bit>
#include <cstdint>
#include <vector>

#include "mmkd/base/rng.h"
#include "mmkd/nn/dropout.h"

// The kernel for CUDA as C++, thread by thread.
namespace mmkd::nn {
namespace {
namespace gpu {

struct Dimensions {
  unsigned int x = 1, y = 1;
};
Dimensions gridDim, blockDim, blockIdx, threadIdx;  // NOLINT(readability-identifier-naming): CUDA's

float __uint_as_float(unsigned int bits) { return std::bit_cast<float>(bits); }           // NOLINT
unsigned int __float_as_uint(float value) { return std::bit_cast<unsigned int>(value); }  // NOLINT

// NOLINTBEGIN(bugprone-reserved-identifier)
#define __device__
#define __global__
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

constexpr double kDropped = 0.3;
constexpr std::uint64_t kDropoutLayer = 9;

ForwardContext dropout_context(std::int64_t samples) {
  return {.training = true, .seed = 3, .step = 5, .sample_keys = at::arange(samples, at::kLong) * 7919 - 2};
}

/// What the kernel makes of x, whose elements beyond its samples it must leave alone.
at::Tensor on_gpu(const at::Tensor& x, const ForwardContext& context, const at::Tensor& offsets, gpu::Dimensions grid) {
  const double threshold = std::lround(kDropped * 65536.0);
  const gpu::Samples samples{reinterpret_cast<const long long*>(context.sample_keys.const_data_ptr<std::int64_t>()),
                             offsets.defined() ? offsets.const_data_ptr<std::int32_t>() : nullptr,
                             context.sample_keys.numel(), x.numel() / x.size(0)};
  const auto step = static_cast<long long>(context.step);
  const gpu::Rate rate{&step, combine_keys({context.seed, static_cast<std::uint64_t>(RngPurpose::dropout)}),
                       kDropoutLayer, static_cast<unsigned int>(threshold),
                       static_cast<float>(65536.0 / (65536.0 - threshold))};
  at::Tensor out = at::full_like(x, -1);
  gpu::for_each_thread(grid, 128, [&] {
    if (x.scalar_type() == at::kFloat) {
      gpu::keyed_dropout_float32(x.const_data_ptr<float>(), out.mutable_data_ptr<float>(), samples, rate);
    } else {
      gpu::keyed_dropout_bfloat16(static_cast<const unsigned short*>(x.const_data_ptr()),
                                  static_cast<unsigned short*>(out.data_ptr()), samples, rate);
    }
  });
  return out;
}

class CudaDropout : public testing::TestWithParam<at::ScalarType> {};

TEST_P(CudaDropout, GivesTheBitsOfTheCpu) {
  at::manual_seed(1);
  for (const std::int64_t positions : {1, 127, 128, 129, 3000}) {
    const auto context = dropout_context(5);
    const at::Tensor x = at::randn({5, positions}).to(GetParam());
    const at::Tensor expected = keyed_dropout(x, kDropped, kDropoutLayer, context);
    for (const gpu::Dimensions grid : {gpu::Dimensions{1, 1}, {1, 5}, {3, 2}, {7, 9}})
      EXPECT_TRUE(at::equal(on_gpu(x, context, {}, grid), expected)) << positions << " " << grid.x << " " << grid.y;
  }
}

TEST_P(CudaDropout, GivesTheBitsOfTheCpuToPackedTokens) {
  at::manual_seed(2);
  const at::Tensor lengths = at::tensor({7, 1, 200, 33}, at::kLong);
  const auto layout = TokenLayout::of_lengths(lengths, 200, at::kCPU);
  const auto context = dropout_context(4);
  const at::Tensor x = at::randn({layout.rows() + 2, 24}).to(GetParam());
  const at::Tensor out = on_gpu(x, context, layout.device_offsets(), {2, 3});
  EXPECT_TRUE(at::equal(out.narrow(0, 0, layout.rows()),
                        keyed_dropout(x.narrow(0, 0, layout.rows()), layout, kDropped, kDropoutLayer, context)));
  EXPECT_TRUE(out.narrow(0, layout.rows(), 2).eq(-1).all().item<bool>());
}

TEST_P(CudaDropout, RoundsWhatIsNotFiniteAsTheCpuDoes) {
  const at::Tensor x =
      at::tensor({INFINITY, -INFINITY, NAN, 0.0F, -0.0F, 3.0e38F, -3.3e38F, 1.0e-40F}).repeat({2, 40}).to(GetParam());
  const auto context = dropout_context(2);
  EXPECT_TRUE(
      at::allclose(on_gpu(x, context, {}, {1, 2}), keyed_dropout(x, kDropped, kDropoutLayer, context), 0, 0, true));
}

INSTANTIATE_TEST_SUITE_P(Types, CudaDropout, testing::Values(at::kFloat, at::kBFloat16),
                         [](const auto& type) { return std::string(c10::toString(type.param)); });

}  // namespace
}  // namespace mmkd::nn
