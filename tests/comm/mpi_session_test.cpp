#include "mmkd/comm/mpi_session.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "mmkd/base/error.h"
#include "mmkd/comm/channel.h"

namespace mmkd {
namespace {

TEST(MpiSession, IsAWorldOfOneWithoutALauncher) {
  const MpiSession session;
  EXPECT_FALSE(session.launched());
  EXPECT_EQ(session.rank(), 0);
  EXPECT_EQ(session.size(), 1);
  EXPECT_EQ(session.local_rank(), 0);
  EXPECT_EQ(session.local_size(), 1);
  EXPECT_FALSE(session.host().empty());
}

TEST(MpiSession, CollectivesOfAWorldOfOneReturnWhatTheyGot) {
  const MpiSession session;
  std::string bytes = "bytes";
  session.barrier();
  session.broadcast(bytes, 0);
  EXPECT_EQ(bytes, "bytes");
  EXPECT_EQ(session.gather("a", 0), std::vector<std::string>{"a"});
  EXPECT_EQ(session.all_gather("b"), std::vector<std::string>{"b"});
  EXPECT_TRUE(session.any(true));
  EXPECT_FALSE(session.any(false));
  EXPECT_THROW(session.broadcast(bytes, 1), Error);
}

TEST(MpiSession, RefusesSeveralTasksOfSrunThatCannotFindEachOther) {
  setenv("SLURM_PROCID", "0", 1);
  setenv("SLURM_STEP_NUM_TASKS", "2", 1);
  EXPECT_THROW(MpiSession(), Error);
  setenv("SLURM_STEP_NUM_TASKS", "1", 1);
  EXPECT_NO_THROW(MpiSession());
  unsetenv("SLURM_STEP_NUM_TASKS");
  unsetenv("SLURM_PROCID");
}

TEST(MpiSession, RefusesMessagesThatMpiCannotCount) {
  EXPECT_THROW(MpiSession(0), Error);
  EXPECT_THROW(MpiSession(std::size_t{1} << 31), Error);
}

TEST(MpiSessionDeathTest, AbortExitsWithItsCode) { EXPECT_EXIT(MpiSession().abort(9), testing::ExitedWithCode(9), ""); }

TEST(Channel, InAWorldOfOneResultsAreWhatWentIn) {
  const MpiSession session;
  Channel channel(session);
  EXPECT_EQ(channel.transport(), "one rank");
  std::vector<float> values{1.0F, 2.0F}, copy(2);
  channel.all_reduce(values.data(), 2, ElementType::f32, Reduction::average);
  channel.reduce_scatter(values.data(), copy.data(), 2, ElementType::f32, Reduction::sum);
  EXPECT_EQ(copy, values);
  channel.all_gather(values.data(), copy.data(), 2 * sizeof(float));
  EXPECT_EQ(copy, (std::vector<float>{1.0F, 2.0F}));
  channel.barrier();
}

TEST(Channel, ACancelledOneRefusesFurtherWork) {
  const MpiSession session;
  Channel channel(session);
  channel.cancel();
  EXPECT_THROW(channel.barrier(), Error);
  EXPECT_THROW(channel.barrier(), Error);
}

}  // namespace
}  // namespace mmkd
