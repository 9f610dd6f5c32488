#include "mmkd/nn/noise.h"

#include <gtest/gtest.h>

#include "mmkd/base/error.h"

namespace mmkd::nn {
namespace {

ForwardContext context_of(std::int64_t samples, std::uint64_t step = 0) {
  ForwardContext context;
  context.seed = 3;
  context.step = step;
  context.sample_keys = at::arange(samples, at::kLong);
  return context;
}

TEST(KeyedUniform, LiesStrictlyBetweenZeroAndOneAndIsUniform) {
  const auto u = keyed_uniform(4, RngPurpose::routing, 1, context_of(20000), at::kCPU);
  EXPECT_GT(u.min().item<float>(), 0);
  EXPECT_LT(u.max().item<float>(), 1);
  EXPECT_NEAR(u.mean().item<double>(), 0.5, 0.01);
  EXPECT_NEAR(u.var().item<double>(), 1.0 / 12, 0.002);
}

TEST(KeyedUniform, OfASampleDoesNotDependOnItsBatch) {
  const auto all = keyed_uniform(3, RngPurpose::routing, 1, context_of(8), at::kCPU);
  auto part = context_of(8);
  part.sample_keys = part.sample_keys.narrow(0, 5, 2);
  EXPECT_TRUE(all.narrow(0, 5, 2).equal(keyed_uniform(3, RngPurpose::routing, 1, part, at::kCPU)));
}

TEST(KeyedUniform, DiffersByStepLayerAndPurpose) {
  const auto base = keyed_uniform(3, RngPurpose::routing, 1, context_of(8), at::kCPU);
  EXPECT_FALSE(base.equal(keyed_uniform(3, RngPurpose::routing, 1, context_of(8, 1), at::kCPU)));
  EXPECT_FALSE(base.equal(keyed_uniform(3, RngPurpose::routing, 2, context_of(8), at::kCPU)));
  EXPECT_FALSE(base.equal(keyed_uniform(3, RngPurpose::modality, 1, context_of(8), at::kCPU)));
}

TEST(KeyedUniform, NeedsSampleKeys) { EXPECT_THROW(keyed_uniform(3, RngPurpose::routing, 1, {}, at::kCPU), Error); }

TEST(KeyedGumbel, HasTheMeanAndVarianceOfTheDistribution) {
  const auto g = keyed_gumbel(4, RngPurpose::routing, 1, context_of(20000), at::kCPU);
  EXPECT_TRUE(g.isfinite().all().item<bool>());
  EXPECT_NEAR(g.mean().item<double>(), 0.5772, 0.02);
  EXPECT_NEAR(g.var().item<double>(), 1.6449, 0.05);
}

}  // namespace
}  // namespace mmkd::nn
