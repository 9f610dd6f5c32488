#include "mmkd/metrics/classification.h"

#include <gtest/gtest.h>

#include "mmkd/base/error.h"

namespace mmkd {
namespace {

std::vector<double> one_hot(const std::vector<std::int32_t>& labels, std::size_t classes) {
  std::vector<double> rows(labels.size() * classes, 0.0);
  for (std::size_t i = 0; i < labels.size(); ++i) rows[i * classes + static_cast<std::size_t>(labels[i])] = 1.0;
  return rows;
}

TEST(Scores, AreOneForPerfectPredictions) {
  const std::vector<std::int32_t> y{0, 1, 2, 1};
  const auto scores = score_classification(y, y, one_hot(y, 3), 3);
  EXPECT_DOUBLE_EQ(scores.accuracy, 1);
  EXPECT_DOUBLE_EQ(scores.f1_macro, 1);
  EXPECT_DOUBLE_EQ(scores.roc_auc.value(), 1);
}

TEST(Scores, GiveTheFiguresCountedByHand) {
  // class 0: 2 of 3 found, 2 of 2 predictions right; class 1: 1 of 1 found, 1 of 2 predictions right.
  const std::vector<std::int32_t> y{0, 0, 0, 1}, p{0, 0, 1, 1};
  const auto scores = score_classification(y, p, one_hot(p, 2), 2);
  EXPECT_DOUBLE_EQ(scores.accuracy, 0.75);
  EXPECT_DOUBLE_EQ(scores.per_class[0].precision, 1.0);
  EXPECT_DOUBLE_EQ(scores.per_class[0].recall, 2.0 / 3.0);
  EXPECT_DOUBLE_EQ(scores.per_class[0].f1, 0.8);
  EXPECT_DOUBLE_EQ(scores.per_class[1].f1, 2.0 / 3.0);
  EXPECT_DOUBLE_EQ(scores.f1_macro, (0.8 + 2.0 / 3.0) / 2);
  EXPECT_EQ(scores.confusion, (std::vector<std::vector<std::int64_t>>{{2, 1}, {0, 1}}));
}

TEST(Scores, LeaveClassesOutThatOccurNowhere) {
  const std::vector<std::int32_t> y{0, 0, 1}, p{0, 0, 1};
  const auto scores = score_classification(y, p, one_hot(p, 5), 5);
  EXPECT_DOUBLE_EQ(scores.f1_macro, 1);
  EXPECT_FALSE(scores.roc_auc.has_value()) << "classes 2 to 4 have no positive sample";
}

TEST(RocAuc, CountsTiesAsOneHalf) {
  const std::vector<bool> positive{true, false, true, false};
  const std::vector<double> equal(4, 0.5);
  EXPECT_DOUBLE_EQ(roc_auc(positive, equal).value(), 0.5);
  // pairs (positive, negative): (.9,.5) right, (.9,.9) tie, (.2,.5) wrong, (.2,.9) wrong
  const std::vector<double> mixed{0.9, 0.5, 0.2, 0.9};
  EXPECT_DOUBLE_EQ(roc_auc(positive, mixed).value(), 1.5 / 4);
}

TEST(RocAuc, IsInvertedByNegatingTheScores) {
  const std::vector<bool> positive{true, false, true, false, false};
  const std::vector<double> score{0.3, 0.1, 0.8, 0.5, 0.3};
  std::vector<double> negated;
  for (const double s : score) negated.push_back(-s);
  EXPECT_DOUBLE_EQ(roc_auc(positive, score).value() + roc_auc(positive, negated).value(), 1.0);
}

TEST(ArgmaxRows, TakesTheFirstOfEquals) {
  EXPECT_EQ(argmax_rows(std::vector<double>{1, 1, 0, 0, 2, 2}, 3), (std::vector<std::int32_t>{0, 1}));
}

TEST(Scores, RefuseWhatCannotBeScored) {
  const std::vector<std::int32_t> y{0, 1};
  EXPECT_THROW(score_classification({}, {}, {}, 2), Error);
  EXPECT_THROW(score_classification(y, y, std::vector<double>(3), 2), Error);
  EXPECT_THROW(score_classification(y, std::vector<std::int32_t>{0, 2}, std::vector<double>(4), 2), Error);
}

}  // namespace
}  // namespace mmkd
