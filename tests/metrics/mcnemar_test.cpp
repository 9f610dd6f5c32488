#include "mmkd/metrics/mcnemar.h"

#include <gtest/gtest.h>

#include <vector>

#include "mmkd/base/error.h"

namespace mmkd {
namespace {

McNemar with_counts(int only_a, int only_b, int both = 5) {
  const auto n = static_cast<std::size_t>(only_a + only_b + both);
  std::vector<bool> a(n), b(n);
  for (std::size_t i = 0; i < n; ++i) {
    a[i] = static_cast<int>(i) < only_a || static_cast<int>(i) >= only_a + only_b;
    b[i] = static_cast<int>(i) >= only_a;
  }
  return mcnemar(a, b);
}

TEST(McNemar, FindsNothingWithoutDiscordantSamples) {
  const auto r = with_counts(0, 0);
  EXPECT_DOUBLE_EQ(r.p_exact, 1);
  EXPECT_DOUBLE_EQ(r.chi2_corrected, 0);
  EXPECT_DOUBLE_EQ(r.p_chi2, 1);
}

TEST(McNemar, GivesTheBinomialTailByHand) {
  // 1 against 5: 2 * (1 + 6) / 64
  const auto r = with_counts(1, 5);
  EXPECT_EQ(r.only_a, 1);
  EXPECT_EQ(r.only_b, 5);
  EXPECT_NEAR(r.p_exact, 14.0 / 64.0, 1e-14);
  EXPECT_DOUBLE_EQ(r.chi2_corrected, 9.0 / 6.0);
}

TEST(McNemar, IsSymmetric) {
  EXPECT_DOUBLE_EQ(with_counts(3, 11).p_exact, with_counts(11, 3).p_exact);
  EXPECT_DOUBLE_EQ(with_counts(3, 11).p_chi2, with_counts(11, 3).p_chi2);
}

TEST(McNemar, StaysAProbabilityForManySamples) {
  const auto r = with_counts(3000, 3000);
  EXPECT_LE(r.p_exact, 1);
  EXPECT_GT(r.p_exact, 0.9);
}

TEST(McNemar, RefusesDifferentSizes) { EXPECT_THROW(mcnemar({true}, {}), Error); }

}  // namespace
}  // namespace mmkd
