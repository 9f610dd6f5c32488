#include "mmkd/train/schedule.h"

#include <gtest/gtest.h>

#include <cmath>

#include "mmkd/base/error.h"

namespace mmkd {
namespace {

ScheduleConfig with(Schedule schedule, std::int64_t warmup = 0) {
  return {.schedule = schedule, .peak_lr = 2.0, .warmup_steps = warmup, .total_steps = 10};
}

TEST(LearningRate, StaysAtThePeakWithoutSchedule) {
  for (const std::int64_t step : {0, 1, 9, 100}) EXPECT_EQ(learning_rate(with(Schedule::constant), step), 2.0);
}

TEST(LearningRate, RisesLinearlyFromZeroDuringWarmUp) {
  for (const auto schedule : {Schedule::constant, Schedule::linear, Schedule::cosine}) {
    EXPECT_EQ(learning_rate(with(schedule, 4), 0), 0.0);
    EXPECT_EQ(learning_rate(with(schedule, 4), 1), 0.5);
    EXPECT_EQ(learning_rate(with(schedule, 4), 3), 1.5);
    EXPECT_EQ(learning_rate(with(schedule, 4), 4), 2.0);
  }
}

TEST(LearningRate, FallsLinearlyToZeroAndStaysThere) {
  EXPECT_EQ(learning_rate(with(Schedule::linear, 2), 6), 1.0);
  EXPECT_EQ(learning_rate(with(Schedule::linear, 2), 10), 0.0);
  EXPECT_EQ(learning_rate(with(Schedule::linear, 2), 25), 0.0);
}

TEST(LearningRate, FollowsHalfACosineToZero) {
  EXPECT_DOUBLE_EQ(learning_rate(with(Schedule::cosine, 2), 4), 1.0 + std::sqrt(0.5));
  EXPECT_DOUBLE_EQ(learning_rate(with(Schedule::cosine, 2), 6), 1.0);
  EXPECT_NEAR(learning_rate(with(Schedule::cosine, 2), 10), 0.0, 1e-15);
}

TEST(LearningRate, CopesWithAStageThatIsAllWarmUp) {
  EXPECT_EQ(learning_rate(with(Schedule::linear, 10), 9), 1.8);
  EXPECT_EQ(learning_rate(with(Schedule::linear, 10), 10), 0.0);
}

TEST(WarmupSteps, RoundsUp) {
  EXPECT_EQ(warmup_steps(0.0, 100), 0);
  EXPECT_EQ(warmup_steps(0.05, 100), 5);
  EXPECT_EQ(warmup_steps(0.05, 101), 6);
  EXPECT_EQ(warmup_steps(1.0, 7), 7);
}

TEST(WarmupSteps, RejectsFractionsOutsideZeroToOne) {
  EXPECT_THROW(warmup_steps(-0.1, 10), UsageError);
  EXPECT_THROW(warmup_steps(1.5, 10), UsageError);
}

}  // namespace
}  // namespace mmkd
