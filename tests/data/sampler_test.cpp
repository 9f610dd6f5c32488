#include "mmkd/data/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "mmkd/base/error.h"

namespace mmkd {
namespace {

std::vector<std::int64_t> ascending(std::int64_t n) {
  std::vector<std::int64_t> numbers(static_cast<std::size_t>(n));
  std::iota(numbers.begin(), numbers.end(), 0);
  return numbers;
}

TEST(Sampler, GivesEverySampleOnceInTheOrderOfTheEpochForEveryWorld) {
  for (const std::int64_t samples : {1, 5, 16, 17, 100}) {
    for (const std::int64_t batch : {4, 7, 16}) {
      for (std::int64_t world = 1; world <= 4; ++world) {
        const Sampler first(samples, batch, world, 0);
        const auto order = first.order(3, 1);
        std::vector<std::int64_t> seen;
        for (std::int64_t step = 0; step < first.steps_per_epoch(); ++step) {
          const auto before = seen.size();
          std::int64_t global_count = 0;
          for (std::int64_t rank = 0; rank < world; ++rank) {
            const auto plan = Sampler(samples, batch, world, rank).plan(order, step);
            seen.insert(seen.end(), plan.rows.begin(), plan.rows.end());
            global_count = plan.global_count;
          }
          EXPECT_EQ(static_cast<std::int64_t>(seen.size() - before), global_count);
          EXPECT_TRUE(global_count == batch || step + 1 == first.steps_per_epoch());
        }
        EXPECT_EQ(seen, order) << samples << " samples, batch " << batch << ", world " << world;
      }
    }
  }
}

TEST(Sampler, SharesDifferByAtMostOneAndTheFirstRanksTakeMore) {
  for (std::int64_t world = 1; world <= 4; ++world) {
    const Sampler first(30, 7, world, 0);
    const auto order = first.order(0, 0);
    for (std::int64_t step = 0; step < first.steps_per_epoch(); ++step) {
      std::vector<std::int64_t> shares;
      for (std::int64_t rank = 0; rank < world; ++rank) {
        const auto plan = Sampler(30, 7, world, rank).plan(order, step);
        shares.push_back(static_cast<std::int64_t>(plan.rows.size()));
        EXPECT_EQ(plan.max_rows, (plan.global_count + world - 1) / world);
      }
      EXPECT_TRUE(std::is_sorted(shares.rbegin(), shares.rend()));
      EXPECT_LE(shares.front() - shares.back(), 1);
    }
  }
}

TEST(Sampler, LeavesRanksWithoutRowsOnlyInTheLastStep) {
  const Sampler last(9, 4, 4, 3);  // steps of 4, 4 and 1 samples
  const auto order = last.order(0, 0);
  EXPECT_EQ(last.steps_per_epoch(), 3);
  EXPECT_EQ(last.plan(order, 1).rows.size(), 1U);
  EXPECT_EQ(last.plan(order, 2).rows.size(), 0U);
  EXPECT_EQ(last.plan(order, 2).global_count, 1);
  EXPECT_EQ(last.plan(order, 2).max_rows, 1);
}

TEST(Sampler, OrderIsAPermutationThatDependsOnSeedAndEpochOnly) {
  const auto order = Sampler(50, 8, 1, 0).order(7, 2);
  auto sorted = order;
  std::sort(sorted.begin(), sorted.end());
  EXPECT_EQ(sorted, ascending(50));
  EXPECT_NE(order, ascending(50));
  for (std::int64_t world = 2; world <= 4; ++world) EXPECT_EQ(Sampler(50, 8, world, world - 1).order(7, 2), order);
  EXPECT_EQ(Sampler(50, 16, 1, 0).order(7, 2), order);
  EXPECT_NE(Sampler(50, 8, 1, 0).order(7, 3), order);
  EXPECT_NE(Sampler(50, 8, 1, 0).order(8, 2), order);
}

TEST(Sampler, RefusesABatchSmallerThanTheWorldAndStepsOutsideTheEpoch) {
  EXPECT_THROW(Sampler(10, 3, 4, 0), UsageError);
  EXPECT_NO_THROW(Sampler(10, 4, 4, 0));
  EXPECT_THROW(Sampler(0, 4, 1, 0), Error);
  const Sampler sampler(10, 4, 1, 0);
  const auto order = sampler.order(0, 0);
  EXPECT_THROW(sampler.plan(order, -1), Error);
  EXPECT_THROW(sampler.plan(order, 3), Error);
}

}  // namespace
}  // namespace mmkd
