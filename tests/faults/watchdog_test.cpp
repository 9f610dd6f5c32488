#include <gtest/gtest.h>

#include <csignal>
#include <regex>
#include <thread>

#include "mmkd/base/error.h"
#include "tests/support/small_job.h"

// Ranks that stop taking part: the others say which one, and nobody waits for ever.
namespace mmkd::test {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

// An endless training.
const std::vector<std::string> kEndless{"training.teacher_epochs=100000", "watchdog.dead_after=2"};

bool alive(pid_t pid) { return kill(pid, 0) == 0; }

class Watchdog : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_EQ(job_.pack(kEndless).exit_code, 0); }

  /// A job in the middle of its training, and its ranks.
  std::unique_ptr<Process> start(int ranks) {
    auto process = std::make_unique<Process>(job_.ddp_command(ranks, kEndless), job_.options());
    EXPECT_TRUE(process->wait_until([&] { return process->err().find("teacher: epoch 2 ") != std::string::npos; }));
    std::this_thread::sleep_for(std::chrono::seconds(1));  // so that the others have heard of it
    ranks_ = process->ranks();
    EXPECT_EQ(ranks_.size(), static_cast<std::size_t>(ranks));
    return process;
  }

  void expect_named(const ProcessResult& result, std::size_t rank) {
    EXPECT_FALSE(result.timed_out) << result.all();
    EXPECT_EQ(result.exit_code, static_cast<int>(ExitCode::peer_lost)) << result.all();
    const std::regex said("rank " + std::to_string(rank) +
                          " on \\S+ has (given no sign of life|ended)[^\n]*in phase 'teacher' at step [0-9]+, [^\n]*"
                          "(all-reduce|MPI_I|all-gather|gather|broadcast)");
    EXPECT_TRUE(std::regex_search(result.err, said)) << result.all();
    EXPECT_TRUE(contains(result.err, "goes on from the last checkpoint")) << result.all();
  }

  /// No rank outlives the job by more than `seconds`.
  void expect_nobody_left(int seconds) {
    const auto until = Clock::now() + std::chrono::seconds(seconds);
    const auto left = [&] { return std::any_of(ranks_.begin(), ranks_.end(), alive); };
    while (left() && Clock::now() < until) std::this_thread::sleep_for(std::chrono::milliseconds(50));
    EXPECT_FALSE(left());
  }

  void expect_end_when_stopped(int ranks, std::size_t stopped) {
    const auto process = start(ranks);
    const auto since = Clock::now();
    ASSERT_EQ(kill(ranks_[stopped], SIGSTOP), 0);
    const auto result = process->wait();
    EXPECT_LT(Clock::now() - since, std::chrono::seconds(2 + 5));
    expect_named(result, stopped);
    expect_nobody_left(30);
  }

  SmallJob job_{40, 12, 12};
  std::vector<pid_t> ranks_;
};

TEST_F(Watchdog, AStoppedRankIsNamedAndTheOthersEndInTime) { expect_end_when_stopped(3, 1); }

TEST_F(Watchdog, RankZeroIsWatchedByTheOthers) { expect_end_when_stopped(2, 0); }

TEST_F(Watchdog, RanksDoNotOutliveTheirLauncher) {
  const auto process = start(2);
  process->send(SIGKILL);
  (void)process->wait();
  expect_nobody_left(30);
}

TEST_F(Watchdog, AStopAndGoOfTheWholeJobHarmsNothing) {
  const auto process = start(2);
  for (const auto rank : ranks_) ASSERT_EQ(kill(rank, SIGSTOP), 0);
  std::this_thread::sleep_for(std::chrono::seconds(4));
  for (const auto rank : ranks_) ASSERT_EQ(kill(rank, SIGCONT), 0);
  std::this_thread::sleep_for(std::chrono::seconds(3));
  EXPECT_TRUE(alive(ranks_[0]) && alive(ranks_[1])) << process->err();
  process->kill_everything();
  (void)process->wait();
}

/// The job under launch/run.sh, as people start it.
class RunScript : public ::testing::Test {
 protected:
  std::unique_ptr<Process> start() {
    auto options = job_.options();
    options.environment["MMKD_BIN"] = fs::path(MMKD_DDP).parent_path().string();
    const std::string script = std::string(MMKD_SOURCE_DIR) + "/launch/run.sh";
    auto process = std::make_unique<Process>(
        std::vector<std::string>{script, "-n", "2", "job.yaml", "--set", "training.teacher_epochs=100000"}, options);
    EXPECT_TRUE(process->wait_until([&] { return process->err().find("teacher: epoch ") != std::string::npos; }));
    return process;
  }
  /// Processes whose working folder is the job's.
  std::vector<pid_t> running() const {
    std::vector<pid_t> pids;
    for (const auto& entry : fs::directory_iterator("/proc")) {
      std::error_code none;
      const auto name = entry.path().filename().string();
      if (std::isdigit(static_cast<unsigned char>(name.front())) == 0) continue;
      if (fs::read_symlink(entry.path() / "cwd", none) == job_.folder()) pids.push_back(std::stoi(name));
    }
    return pids;
  }
  void expect_nobody_left() const {
    const auto until = Clock::now() + std::chrono::seconds(30);
    while (!running().empty() && Clock::now() < until) std::this_thread::sleep_for(std::chrono::milliseconds(50));
    EXPECT_TRUE(running().empty());
  }
  /// One of the ranks.
  pid_t a_rank() const {
    for (const auto pid : running()) {
      std::error_code none;
      if (fs::read_symlink("/proc/" + std::to_string(pid) + "/exe", none) == fs::path(MMKD_DDP)) return pid;
    }
    return -1;
  }
  SmallJob job_{40, 12, 12};
};

TEST_F(RunScript, HandsOnSignalsSoThatACheckpointIsWritten) {
  for (const int signal : {SIGTERM, SIGINT}) {
    const auto process = start();
    process->send(signal);
    const auto result = process->wait();
    EXPECT_EQ(result.exit_code, static_cast<int>(ExitCode::interrupted)) << result.all();
    EXPECT_TRUE(contains(result.err, "a checkpoint is on disk")) << result.all();
    expect_nobody_left();
  }
}

TEST_F(RunScript, EndsSoonAfterARankWasKilled) {
  const auto process = start();
  const auto start = Clock::now();
  const auto rank = a_rank();
  ASSERT_GT(rank, 0);
  ASSERT_EQ(kill(rank, SIGKILL), 0);
  const auto result = process->wait();
  EXPECT_LT(Clock::now() - start, std::chrono::seconds(15));
  EXPECT_NE(result.exit_code, 0) << result.all();
  expect_nobody_left();
}

TEST_F(RunScript, LeavesNobodyWhenItIsKilled) {
  const auto process = start();
  process->send(SIGKILL);
  expect_nobody_left();
  (void)process->wait();
}

TEST(Numerics, ATrainingThatDivergesEndsNamingTermAndSamples) {
  const SmallJob job(90, 12, 12);
  const std::vector<std::string> sets{"training.student_lr=1.0e30", "training.max_bad_steps=3"};
  ASSERT_EQ(job.pack(sets).exit_code, 0);
  const auto result = job.ddp(2, sets);
  EXPECT_EQ(result.exit_code, 1) << result.all();
  EXPECT_TRUE(contains(result.err, "training.max_bad_steps (3)")) << result.all();
  EXPECT_TRUE(contains(result.err, "; samples ")) << result.all();
  EXPECT_FALSE(fs::exists(job / "logs/run/student_best.safetensors"));
}

TEST(Numerics, AModelThatGivesNoNumbersIsNotScored) {
  const SmallJob job(40, 12, 12);
  const std::vector<std::string> sets{"training.student_lr=1.0e30"};  // an epoch ends before too many steps are bad
  ASSERT_EQ(job.pack(sets).exit_code, 0);
  const auto result = job.ddp(2, sets);
  EXPECT_EQ(result.exit_code, 1) << result.all();
  EXPECT_TRUE(contains(result.err, "outputs for sample ")) << result.all();
}

}  // namespace
}  // namespace mmkd::test
