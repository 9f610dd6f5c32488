#include <gtest/gtest.h>

#include <csignal>

#include "tests/support/small_job.h"

// Two jobs that need the same stage at the same moment.
namespace mmkd::test {
namespace {

namespace fs = std::filesystem;

const std::string kLong = "training.teacher_epochs=100";

class SharedStage : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto packed = job_.pack();
    ASSERT_EQ(packed.exit_code, 0) << packed.all();
  }
  std::unique_ptr<Process> start(const std::string& log_dir, const std::vector<std::string>& more = {}) const {
    std::vector<std::string> sets{kLong, "logging.log_dir=logs/" + log_dir};
    sets.insert(sets.end(), more.begin(), more.end());
    return std::make_unique<Process>(job_.ddp_command(1, sets), job_.options());
  }
  static bool says(const Process& process, const std::string& part) {
    return process.err().find(part) != std::string::npos;
  }

  SmallJob job_{40, 12, 12};
};

TEST_F(SharedStage, IsBuiltOnceAndBothJobsFinish) {
  const auto first = start("first");
  ASSERT_TRUE(first->wait_until([&] { return says(*first, "teacher: epoch 1 "); })) << first->err();
  const auto second = start("second");
  ASSERT_TRUE(second->wait_until([&] { return says(*second, "builds this stage since"); })) << second->err();
  const auto of_first = first->wait();
  const auto of_second = second->wait();
  EXPECT_EQ(of_first.exit_code, 0) << of_first.all();
  EXPECT_EQ(of_second.exit_code, 0) << of_second.all();
  EXPECT_TRUE(contains(of_second.err, "teacher: reused"));
  EXPECT_FALSE(of_second.err.find("teacher: epoch") != std::string::npos) << of_second.err;
  EXPECT_TRUE(job_.unfinished().empty());
  for (const char* log : {"first", "second"})
    EXPECT_TRUE(fs::exists(job_ / ("logs/" + std::string(log) + "/results.json")));
}

TEST_F(SharedStage, IsTakenOverFromAJobThatWasKilledAndGoesOnFromItsCheckpoint) {
  const std::vector<std::string> apart{kLong, "artifacts.root=reference", "logging.log_dir=logs/reference"};
  ASSERT_EQ(job_.pack(apart).exit_code, 0);
  const auto undisturbed = job_.ddp(1, apart);
  ASSERT_EQ(undisturbed.exit_code, 0) << undisturbed.all();
  const auto first = start("first");
  ASSERT_TRUE(first->wait_until([&] { return says(*first, "teacher: epoch 2 "); })) << first->err();
  const auto second = start("second");
  ASSERT_TRUE(second->wait_until([&] { return says(*second, "builds this stage since"); })) << second->err();
  first->kill_everything();
  (void)first->wait();
  const auto result = second->wait();
  EXPECT_EQ(result.exit_code, 0) << result.all();
  EXPECT_TRUE(contains(result.err, "taken over from process"));
  EXPECT_TRUE(all_files(job_.artifact("teacher")).at("teacher.safetensors") ==
              all_files(job_ / "logs/reference").at("teacher.safetensors"));
  EXPECT_TRUE(job_.unfinished().empty());
}

TEST_F(SharedStage, CanBeWaitedForNoLongerThanOneLikes) {
  const std::vector<std::string> endless{"training.teacher_epochs=100000"};  // it must not end before the signal comes
  const auto first = start("first", endless);
  ASSERT_TRUE(first->wait_until([&] { return says(*first, "teacher: epoch 1 "); })) << first->err();
  const auto second = start("second", endless);
  ASSERT_TRUE(second->wait_until([&] { return says(*second, "builds this stage since"); })) << second->err();
  second->send(SIGUSR2);  // which mpirun hands on
  const auto result = second->wait();
  EXPECT_EQ(result.exit_code, 75) << result.all();
  EXPECT_TRUE(contains(result.err, "stopped by a signal while another process builds the teacher stage"));
  first->kill_everything();
  (void)first->wait();
}

TEST_F(SharedStage, AStoppedBuilderFindsThatItWasReplacedAndLeaves) {
  const auto first = start("first", {"watchdog.dead_after=5"});
  ASSERT_TRUE(first->wait_until([&] { return says(*first, "teacher: epoch 1 "); })) << first->err();
  const auto ranks = first->ranks();
  ASSERT_EQ(ranks.size(), 1u);
  ASSERT_EQ(::kill(ranks[0], SIGSTOP), 0);
  const auto second = start("second", {"watchdog.dead_after=5"});
  ASSERT_TRUE(second->wait_until([&] { return says(*second, "taken over from process"); })) << second->err();
  ASSERT_EQ(::kill(ranks[0], SIGCONT), 0);
  const auto of_first = first->wait();
  EXPECT_EQ(of_first.exit_code, 75) << of_first.all();
  EXPECT_TRUE(contains(of_first.err, "another process has taken this stage over"));
  const auto of_second = second->wait();
  EXPECT_EQ(of_second.exit_code, 0) << of_second.all();
}

}  // namespace
}  // namespace mmkd::test
