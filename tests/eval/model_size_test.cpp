#include "mmkd/eval/model_size.h"

#include <gtest/gtest.h>

#include <ATen/ATen.h>

namespace mmkd {
namespace {

TEST(CountFlops, OfAMatrixProductIsTwoPerMultiplyAdd) {
  const auto a = at::ones({3, 5}), b = at::ones({5, 7});
  EXPECT_EQ(count_flops([&] { (void)at::mm(a, b); }), 2 * 3 * 5 * 7);
  EXPECT_EQ(count_flops([&] { (void)at::matmul(a, b); }), 2 * 3 * 5 * 7);
  EXPECT_EQ(count_flops([&] { (void)at::linear(a, b.t()); }), 2 * 3 * 5 * 7);
  EXPECT_EQ(count_flops([&] { (void)at::linear(a, b.t(), at::ones({7})); }), 2 * 3 * 5 * 7);
}

TEST(CountFlops, OfAttentionIsItsTwoProducts) {
  const auto q = at::ones({2, 4, 6, 8}), k = at::ones({2, 4, 9, 8}), v = at::ones({2, 4, 9, 8});
  EXPECT_EQ(count_flops([&] { (void)at::scaled_dot_product_attention(q, k, v); }), 2 * (2 * 2 * 4 * 6 * 9 * 8));
}

TEST(CountFlops, OfAConvolutionCountsOutputsTimesKernel) {
  const auto x = at::ones({2, 4, 10, 10});
  // 3×3, stride 2, padding 1: 5×5 places
  EXPECT_EQ(count_flops([&] { (void)at::conv2d(x, at::ones({8, 4, 3, 3}), {}, 2, 1); }), 2 * 2 * 25 * (8 * 4 * 9));
  // depthwise
  EXPECT_EQ(count_flops([&] { (void)at::conv2d(x, at::ones({4, 1, 3, 3}), {}, 1, 1, 1, 4); }), 2 * 2 * 100 * (4 * 9));
}

TEST(CountFlops, IgnoresWhatIsNotAProductAndStartsAnewEachTime) {
  const auto a = at::ones({4, 4});
  EXPECT_EQ(count_flops([&] { (void)(a + a).softmax(-1); }), 0);
  EXPECT_EQ(count_flops([&] { (void)at::mm(a, a); }), 128);
}

}  // namespace
}  // namespace mmkd
