#include <gtest/gtest.h>

#include "mmkd/dist/world.h"

namespace mmkd {
namespace {

TEST(BatchShares, TenRowsOverFourRanksAreThreeThreeTwoTwo) {
  const BatchShares shares{10, 4};
  const std::vector<std::int64_t> rows{3, 3, 2, 2}, begins{0, 3, 6, 8};
  for (std::int64_t rank = 0; rank < 4; ++rank) {
    EXPECT_EQ(shares.rows_of(rank), rows[static_cast<std::size_t>(rank)]);
    EXPECT_EQ(shares.begin_of(rank), begins[static_cast<std::size_t>(rank)]);
  }
  EXPECT_EQ(shares.max_rows(), 3);
}

TEST(BatchShares, CoverEveryBatchOnceInOrder) {
  for (std::int64_t world = 1; world <= 5; ++world) {
    for (std::int64_t count = 1; count <= 13; ++count) {
      const BatchShares shares{count, world};
      std::int64_t next = 0;
      for (std::int64_t rank = 0; rank < world; ++rank) {
        EXPECT_EQ(shares.begin_of(rank), next) << count << " rows over " << world;
        EXPECT_LE(shares.rows_of(rank), shares.max_rows());
        EXPECT_GE(shares.rows_of(rank), shares.max_rows() - 1);
        next += shares.rows_of(rank);
      }
      EXPECT_EQ(next, count);
    }
  }
}

TEST(BatchShares, LateRanksOfASmallBatchHaveNothing) {
  const BatchShares shares{2, 3};
  EXPECT_EQ(shares.rows_of(2), 0);
  EXPECT_EQ(shares.begin_of(2), 2);
}

}  // namespace
}  // namespace mmkd
