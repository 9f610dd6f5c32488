#include "mmkd/base/rng.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

namespace mmkd {
namespace {

TEST(Philox, GivesTheKnownAnswersOfItsAuthors) {
  // Random123's kat_vectors for philox4x32-10.
  using Block = std::array<std::uint32_t, 4>;
  EXPECT_EQ((philox4x32<10>({0, 0, 0, 0}, {0, 0})), (Block{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ((philox4x32<10>({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff})),
            (Block{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ((philox4x32<10>({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0})),
            (Block{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
  EXPECT_EQ((philox4x32<7>({0, 0, 0, 0}, {0, 0})), (Block{0x5f6fb709, 0x0d893f64, 0x4f121f81, 0x4f730a48}));
}

TEST(KeyedRng, DependsOnItsKeyAlone) {
  KeyedRng a(1, RngPurpose::shuffle, {2, 3});
  KeyedRng b(1, RngPurpose::shuffle, {2, 3});
  for (int i = 0; i < 100; ++i) EXPECT_EQ(a.next_u64(), b.next_u64());
}

TEST(KeyedRng, GivesOtherStreamsForOtherKeys) {
  std::set<std::uint64_t> first;
  for (std::uint64_t seed = 0; seed < 4; ++seed) {
    for (const auto purpose : {RngPurpose::shuffle, RngPurpose::init, RngPurpose::dropout}) {
      for (std::uint64_t part = 0; part < 4; ++part) {
        first.insert(KeyedRng(seed, purpose, {part}).next_u64());
        first.insert(KeyedRng(seed, purpose, {part, 0}).next_u64());
      }
    }
  }
  EXPECT_EQ(first.size(), 4U * 3U * 4U * 2U);
}

TEST(KeyedRng, BelowIsUniform) {
  KeyedRng rng(7, RngPurpose::demo);
  std::array<int, 6> counts{};
  constexpr int kDraws = 60000;
  for (int i = 0; i < kDraws; ++i) ++counts[rng.below(6)];
  for (const int count : counts) EXPECT_NEAR(count, kDraws / 6, 5 * std::sqrt(kDraws / 6.0));
}

TEST(KeyedRng, NormalHasMeanZeroAndVarianceOne) {
  KeyedRng rng(7, RngPurpose::init);
  double sum = 0, squares = 0;
  constexpr int kDraws = 100000;
  for (int i = 0; i < kDraws; ++i) {
    const double x = rng.normal();
    ASSERT_TRUE(std::isfinite(x));
    sum += x;
    squares += x * x;
  }
  EXPECT_NEAR(sum / kDraws, 0, 0.02);
  EXPECT_NEAR(squares / kDraws, 1, 0.03);
}

TEST(KeyedRng, PermutationHoldsEveryNumberOnce) {
  for (const std::uint32_t n : {0U, 1U, 2U, 1000U}) {
    auto order = KeyedRng(3, RngPurpose::shuffle, {n}).permutation(n);
    ASSERT_EQ(order.size(), n);
    std::sort(order.begin(), order.end());
    for (std::uint32_t i = 0; i < n; ++i) EXPECT_EQ(order[i], i);
  }
}

}  // namespace
}  // namespace mmkd
