#include "mmkd/stages/lock.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <thread>
#include <vector>

#include "mmkd/base/error.h"
#include "mmkd/base/files.h"
#include "tests/support/temp_folder.h"

namespace mmkd {
namespace {

using std::chrono::milliseconds;

LockOptions quick() {
  LockOptions options;
  options.beat = milliseconds(20);
  options.stale_after = milliseconds(10000);
  options.poll = milliseconds(5);
  return options;
}

class StageLocks : public ::testing::Test {
 protected:
  fs::path place() const { return folder_ / "0123abcd"; }
  std::vector<std::string> files() const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder_.path())) names.push_back(entry.path().filename().string());
    return names;
  }

  /// Another process that holds the lock until it is killed.
  pid_t holder(const LockOptions& options) const {
    const pid_t child = ::fork();
    if (child == 0) {
      const auto lock = StageLock::acquire(place(), options);
      for (;;) ::pause();
    }
    const auto holds = [&] {  // its file is empty for a moment
      const auto owner = StageLock::owner(place());
      return owner && owner->pid == child;
    };
    while (!holds()) std::this_thread::sleep_for(milliseconds(2));
    return child;
  }

  test::TempFolder folder_;
};

TEST_F(StageLocks, NameTheirOwnerAndLeaveNothingBehind) {
  EXPECT_FALSE(StageLock::owner(place()));
  {
    auto options = quick();
    options.progress = [] { return std::string("epoch 2/3"); };
    const auto lock = StageLock::acquire(place(), options);
    const auto owner = StageLock::owner(place());
    ASSERT_TRUE(owner);
    EXPECT_EQ(owner->pid, ::getpid());
    EXPECT_EQ(owner->progress, "epoch 2/3");
  }
  EXPECT_FALSE(StageLock::owner(place()));
  EXPECT_TRUE(files().empty());
}

TEST_F(StageLocks, AreHeldByOneOfManyAtATime) {
  std::atomic<int> inside{0}, most{0}, entered{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 6; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 5; ++i) {
        const auto lock = StageLock::acquire(place(), quick());
        most = std::max(most.load(), ++inside);
        std::this_thread::sleep_for(milliseconds(2));
        ++entered;
        --inside;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(entered, 30);
  EXPECT_EQ(most, 1);
  EXPECT_TRUE(files().empty());
}

TEST_F(StageLocks, OfADeadProcessOfThisHostAreTakenOverAtOnce) {
  auto patient = quick();
  patient.stale_after = std::chrono::hours(1);
  const pid_t child = holder(patient);
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  EXPECT_FALSE(StageLock::owner(place()));
  EXPECT_FALSE(files().empty());  // its file is still there
  const auto lock = StageLock::acquire(place(), patient);
  EXPECT_EQ(StageLock::owner(place())->pid, ::getpid());
  EXPECT_EQ(files().size(), 1u);
}

TEST_F(StageLocks, OfAStoppedProcessAreTakenOverAfterItsDeadlineAndItFindsOut) {
  const auto lost_mark = folder_ / "lost";
  auto options = quick();
  options.stale_after = milliseconds(300);
  auto of_child = options;
  of_child.lost = [&] { write_file_atomic(lost_mark, ""); };
  const pid_t child = holder(of_child);
  ::kill(child, SIGSTOP);
  int looks = 0;
  options.waiting = [&](const LockOwner& owner) {
    ++looks;
    EXPECT_EQ(owner.pid, child);
  };
  const auto lock = StageLock::acquire(place(), options);
  EXPECT_GT(looks, 1);
  EXPECT_FALSE(fs::exists(lost_mark));
  ::kill(child, SIGCONT);
  while (!fs::exists(lost_mark)) std::this_thread::sleep_for(milliseconds(5));
  EXPECT_EQ(StageLock::owner(place())->pid, ::getpid());
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
}

TEST_F(StageLocks, AreWaitedForAsLongAsTheirOwnerGivesSignsOfLife) {
  auto options = quick();
  options.stale_after = milliseconds(1500);
  const pid_t child = holder(options);
  struct Enough {};
  const auto until = std::chrono::steady_clock::now() + milliseconds(2500);
  options.waiting = [&](const LockOwner&) {
    if (std::chrono::steady_clock::now() > until) throw Enough{};
  };
  EXPECT_THROW(StageLock::acquire(place(), options), Enough);
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
}

TEST_F(StageLocks, ThatAreDamagedOrEmptyAreTakenOverAfterTheDeadline) {
  auto options = quick();
  options.stale_after = milliseconds(100);
  for (const std::string bytes : {"", "{", "[1]", "{\"process\": 3, \"since\": []}", "\xff\xfe"}) {
    write_file_atomic(place().string() + ".lock.7", bytes);
    const auto lock = StageLock::acquire(place(), options);
    EXPECT_EQ(files(), std::vector<std::string>{"0123abcd.lock.8"}) << bytes;
  }
}

TEST_F(StageLocks, OfOtherStagesAndOtherFilesDoNotCount) {
  write_file_atomic(folder_ / "0123abcd.lock.x", "");
  write_file_atomic(folder_ / "0123abcd0.lock.1", "");
  write_file_atomic(folder_ / "0123abcd.lock.-3", "");
  const auto lock = StageLock::acquire(place(), quick());
  EXPECT_TRUE(StageLock::owner(place()));
}

}  // namespace
}  // namespace mmkd
