#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <optional>
#include <string>

#include "mmkd/base/rng.h"
#include "mmkd/nn/dropout.h"
#include "tests/support/cuda_dropout.h"

namespace mmkd::nn {
namespace {

namespace gpu = mmkd::emulated::gpu;

constexpr double kDropped = 0.3;
constexpr std::uint64_t kDropoutLayer = 9;

ForwardContext dropout_context(std::int64_t samples) {
  return {.training = true, .seed = 3, .step = 5, .sample_keys = at::arange(samples, at::kLong) * 7919 - 2};
}

/// What the kernel makes of x, whose elements beyond its samples it must leave alone.
at::Tensor on_gpu(const at::Tensor& x, const ForwardContext& context, const at::Tensor& offsets, gpu::Dimensions grid) {
  const double threshold = std::lround(kDropped * 65536.0);
  const std::uint64_t prefix = combine_keys({context.seed, static_cast<std::uint64_t>(RngPurpose::dropout)});
  at::Tensor out = at::full_like(x, -1);
  mmkd::emulated::cuda_dropout(x, out,
                               {.sample_keys = context.sample_keys,
                                .offsets = offsets.defined() ? std::optional(offsets) : std::nullopt,
                                .step = at::full({1}, static_cast<std::int64_t>(context.step), at::kLong),
                                .prefix = std::bit_cast<std::int64_t>(prefix),
                                .layer = kDropoutLayer,
                                .threshold = static_cast<std::int64_t>(threshold),
                                .scale = 65536.0 / (65536.0 - threshold)},
                               grid);
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
