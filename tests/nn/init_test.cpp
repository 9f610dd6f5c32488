#include "mmkd/nn/init.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "mmkd/nn/layers.h"
#include "mmkd/nn/weight_entry.h"

namespace mmkd::nn {
namespace {

at::Tensor initialized(const Init& init, at::IntArrayRef shape, std::uint64_t seed = 1, const std::string& name = "w") {
  at::Tensor tensor = at::full(shape, -100.0F);
  std::vector<WeightEntry> entries;
  add_weight(entries, name, tensor, init);
  initialize(entries, seed);
  return tensor;
}

TEST(Initialize, ConstantsFill) {
  EXPECT_TRUE(at::equal(initialized(Init::zeros(), {3, 2}), at::zeros({3, 2})));
  EXPECT_TRUE(at::equal(initialized(Init::ones(), {5}), at::ones({5})));
}

TEST(Initialize, NormalHasItsDeviationAndShape) {
  constexpr double kCount = 200 * 1001;
  const at::Tensor w = initialized(Init::normal(0.02), {200, 1001}).to(at::kDouble) / 0.02;
  EXPECT_NEAR(w.mean().item<double>(), 0, 4 / std::sqrt(kCount));
  EXPECT_NEAR(w.pow(2).mean().item<double>(), 1, 4 * std::sqrt(2 / kCount));
  EXPECT_NEAR(w.pow(4).mean().item<double>(), 3, 4 * std::sqrt(96 / kCount));
  EXPECT_NEAR(w.abs().lt(0.6745).to(at::kDouble).mean().item<double>(), 0.5,
              4 * 0.5 / std::sqrt(kCount));  // the quartiles
}

TEST(Initialize, TruncatedNormalStaysWithinTwoAndKeepsTheRest) {
  const at::Tensor w = initialized(Init::truncated_normal(1.5), {10000});
  EXPECT_LE(w.abs().max().item<double>(), 2.0);
  const at::Tensor untruncated = initialized(Init::normal(1.5), {10000});
  const at::Tensor inside = untruncated.abs().le(2.0);
  EXPECT_GT(inside.logical_not().sum().item<std::int64_t>(), 1000);
  EXPECT_TRUE(at::equal(w.masked_select(inside), untruncated.masked_select(inside)));
}

TEST(Initialize, UniformHasItsBound) {
  const at::Tensor w = initialized(Init::uniform(0.5), {100000});
  EXPECT_LT(w.abs().max().item<double>(), 0.5);
  EXPECT_GT(w.abs().max().item<double>(), 0.4999);
  EXPECT_NEAR(w.mean().item<double>(), 0, 4 * 0.5 / std::sqrt(3.0 * 100000));
  EXPECT_NEAR(w.pow(2).mean().item<double>(), 0.25 / 3, 0.002);
}

TEST(Initialize, BoundsAreThoseOfPyTorch) {
  EXPECT_DOUBLE_EQ(Init::fan_in(16).scale, 0.25);
  EXPECT_DOUBLE_EQ(Init::xavier_uniform(8, 16).scale, 0.5);
}

TEST(Initialize, DependsOnSeedAndNameAlone) {
  const at::Tensor w = initialized(Init::normal(1), {70, 70}, 1, "a");
  EXPECT_TRUE(at::equal(w, initialized(Init::normal(1), {70, 70}, 1, "a")));
  EXPECT_FALSE(at::equal(w, initialized(Init::normal(1), {70, 70}, 2, "a")));
  EXPECT_FALSE(at::equal(w, initialized(Init::normal(1), {70, 70}, 1, "b")));
  // A longer tensor begins with the same numbers.
  EXPECT_TRUE(at::equal(w.flatten().narrow(0, 0, 1001), initialized(Init::normal(1), {1001}, 1, "a")));
}

TEST(Initialize, DoesNotDependOnTheNumberOfThreads) {
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  const at::Tensor one = initialized(Init::normal(1), {300, 301});
  at::set_num_threads(3);
  const at::Tensor three = initialized(Init::normal(1), {300, 301});
  at::set_num_threads(threads);
  EXPECT_TRUE(at::equal(one, three));
}

TEST(Initialize, DoesNotDependOnTheOrderOfEntries) {
  Linear first(7, 5), second(7, 5);
  std::vector<WeightEntry> entries, reversed;
  first.collect_weights("x.", InitScheme::torch(), entries);
  second.collect_weights("x.", InitScheme::torch(), reversed);
  std::reverse(reversed.begin(), reversed.end());
  initialize(entries, 4);
  initialize(reversed, 4);
  EXPECT_TRUE(at::equal(first.weight, second.weight));
  EXPECT_TRUE(at::equal(first.bias, second.bias));
}

TEST(Initialize, LeavesTheAskedRowZero) {
  Init init = Init::normal(1);
  init.zero_row = 2;
  const at::Tensor w = initialized(init, {4, 8});
  EXPECT_EQ(w[2].abs().max().item<float>(), 0);
  for (const std::int64_t row : {0, 1, 3}) EXPECT_GT(w[row].abs().min().item<float>(), 0) << row;
}

TEST(Initialize, OtherTypesGetTheSameNumbers) {
  at::Tensor tensor = at::empty({50}, at::kDouble);
  std::vector<WeightEntry> entries;
  add_weight(entries, "w", tensor, Init::normal(1));
  initialize(entries, 1);
  EXPECT_TRUE(at::equal(tensor, initialized(Init::normal(1), {50}).to(at::kDouble)));
}

TEST(InitScheme, HuggingFaceHasNormalWeightsAndNoBias) {
  Linear linear(300, 400);
  std::vector<WeightEntry> entries;
  linear.collect_weights("", InitScheme::hugging_face(0.02), entries);
  initialize(entries, 1);
  EXPECT_NEAR(linear.weight.std().item<double>(), 0.02, 0.0003);
  EXPECT_EQ(linear.bias.abs().max().item<float>(), 0);
}

TEST(InitScheme, TorchHasUniformWeightsAndBias) {
  Linear linear(400, 300);
  std::vector<WeightEntry> entries;
  linear.collect_weights("", InitScheme::torch(), entries);
  initialize(entries, 1);
  for (const auto& tensor : {linear.weight, linear.bias}) {
    EXPECT_LE(tensor.abs().max().item<double>(), 0.05);
    EXPECT_GT(tensor.abs().max().item<double>(), 0.049);
  }
}

}  // namespace
}  // namespace mmkd::nn
