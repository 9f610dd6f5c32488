#include "src/config/suggest.h"

#include <gtest/gtest.h>

#include <vector>

namespace mmkd::config_detail {
namespace {

const std::vector<std::string_view> kNames{"batch_size", "teacher_lr", "student_lr", "T"};

TEST(DidYouMean, NamesTheNearestCandidate) {
  EXPECT_EQ(did_you_mean("batchsize", kNames), "; did you mean \"batch_size\"?");
  EXPECT_EQ(did_you_mean("BATCH_SIZE", kNames), "; did you mean \"batch_size\"?");
  EXPECT_EQ(did_you_mean("taecher_lr", kNames), "; did you mean \"teacher_lr\"?");
}

TEST(DidYouMean, NamesThoseThatContainWhatWasFoundWhereNoneIsNear) {
  EXPECT_EQ(did_you_mean("batch", kNames), "; did you mean \"batch_size\"?");
  EXPECT_EQ(did_you_mean("lr", kNames), "; did you mean \"teacher_lr\" or \"student_lr\"?");
}

TEST(DidYouMean, SaysNothingWhereNothingIsNear) {
  EXPECT_EQ(did_you_mean("optimizer", kNames), "");
  EXPECT_EQ(did_you_mean("x", kNames), "");
  EXPECT_EQ(did_you_mean("", kNames), "");
  EXPECT_EQ(did_you_mean(std::string(100'000, 'b'), kNames), "");
}

}  // namespace
}  // namespace mmkd::config_detail
