// The reduced-precision formats of comm/ordered_reduce.h are its own code; torch's are the oracle here.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>

#include "mmkd/comm/ordered_reduce.h"

namespace mmkd {
namespace {

// All 65536 values of a 16-bit type against a few partners: reduced by us, and by torch through float32.
void expect_sums_of_torch(at::ScalarType dtype, ElementType type) {
  at::set_num_threads(1);
  const auto all = at::arange(65536, at::kInt).to(at::kShort).view(dtype);
  for (const double partner : {0.0, -0.0, 1.0, -3.0, 1e-7, 0.3, 60000.0, -65504.0}) {
    const auto other = at::full_like(all, partner);
    auto got = at::empty_like(all);
    const std::vector<const std::byte*> inputs{static_cast<const std::byte*>(all.const_data_ptr()),
                                               static_cast<const std::byte*>(other.const_data_ptr())};
    reduce_in_order(Reduction::sum, type, inputs, static_cast<std::byte*>(got.data_ptr()), 65536);
    const auto want = (all.to(at::kFloat) + other.to(at::kFloat)).to(dtype);
    const auto differs = (got.view(at::kShort) != want.view(at::kShort)) & ~(got.isnan() & want.isnan());
    EXPECT_EQ(differs.sum().item<std::int64_t>(), 0) << c10::toString(dtype) << " + " << partner;
  }
}

TEST(ReduceInOrder, HalfPrecisionAgreesWithTorchOnEveryValue) { expect_sums_of_torch(at::kHalf, ElementType::f16); }

TEST(ReduceInOrder, Bfloat16AgreesWithTorchOnEveryValue) { expect_sums_of_torch(at::kBFloat16, ElementType::bf16); }

}  // namespace
}  // namespace mmkd
