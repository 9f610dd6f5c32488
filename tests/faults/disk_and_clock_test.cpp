#include <gtest/gtest.h>

#include <functional>
#include <sstream>

#include "tests/support/small_job.h"

// Disks that fail, write less than asked for or are slow, and clocks that are set while a job runs.
namespace mmkd::test {
namespace {

namespace fs = std::filesystem;

const std::vector<std::string> kFourEpochs{"training.teacher_epochs=4", "training.student_epochs=4"};

void expect_success(const ProcessResult& result) { ASSERT_EQ(result.exit_code, 0) << result.all(); }

/// The program ended by itself, with 1, one error, and nothing that a later run could take for finished.
void expect_one_error(const SmallJob& job, const ProcessResult& result, const std::vector<std::string>& parts) {
  EXPECT_FALSE(result.timed_out) << result.all();
  EXPECT_EQ(result.exit_code, 1) << result.all();
  ASSERT_EQ(own_errors(result.err).size(), 1U) << result.all();
  for (const auto& part : parts) EXPECT_TRUE(contains(own_errors(result.err).front(), part)) << result.all();
  for (const auto& left : job.unfinished()) EXPECT_EQ(fs::path(left).extension(), ".work") << left;
}

/// Files that are being written and were left by a program that has ended.
std::vector<std::string> temporaries(const SmallJob& job) {
  std::vector<std::string> found;
  for (const auto& entry : fs::recursive_directory_iterator(job.folder())) {
    if (entry.path().extension() == ".tmp") found.push_back(entry.path().string());
  }
  return found;
}

Outcome undisturbed() {
  const SmallJob job;
  const auto packed = job.pack(kFourEpochs);
  EXPECT_EQ(packed.exit_code, 0) << packed.all();
  const auto whole = job.ddp(2, kFourEpochs);
  EXPECT_EQ(whole.exit_code, 0) << whole.all();
  return outcome_of(job);
}

const Outcome& wanted() {
  static const Outcome outcome = undisturbed();
  return outcome;
}

// ---------------------------------------------------------------- packing

TEST(Packing, ShortWritesGiveTheSameShards) {
  const SmallJob job;
  expect_success(job.pack());
  const auto want = all_files(job.artifact("pack"));
  fs::remove_all(job / "artifacts");
  expect_success(run(job.pack_command(), job.options(Faults{.short_writes = true})));
  EXPECT_TRUE(all_files(job.artifact("pack")) == want);
}

/// Packs with the nth call failing, for growing n, until nothing fails any more: the program does not come that far.
/// Once in the shards, once in the folder that becomes the artifact.
void fail_everywhere(const std::function<Faults(const std::string& match, const std::string& nth)>& faults) {
  constexpr int kFirst = 8, kMost = 100'000;  // the first ones one by one, then in growing steps
  const SmallJob job(40, 8, 8);
  expect_success(job.pack());
  const auto want = all_files(job.artifact("pack"));
  for (const std::string match : {".work/", ".tmp/"}) {
    int failed = 0;
    for (int n = 1; n < kMost; n += n < kFirst ? 1 : n / 3) {
      SCOPED_TRACE("call " + std::to_string(n) + " to " + match);
      fs::remove_all(job / "artifacts");
      const auto result = run(job.pack_command(), job.options(faults(match, std::to_string(n))));
      if (result.exit_code == 0) {  // past the end
        EXPECT_TRUE(all_files(job.artifact("pack")) == want);
        break;
      }
      ++failed;
      expect_one_error(job, result, {"artifacts/pack/", "Input/output error"});
      EXPECT_EQ(temporaries(job), std::vector<std::string>{});
      expect_success(job.pack());
      EXPECT_TRUE(all_files(job.artifact("pack")) == want);
      if (::testing::Test::HasFailure()) return;
    }
    EXPECT_GE(failed, 2);
  }
}

TEST(Packing, AWriteThatFailsIsOneErrorAndTheSameCommandSucceedsLater) {
  fail_everywhere([](const auto& match, const auto& nth) { return Faults{.match = match, .write = nth}; });
}

TEST(Packing, AFlushThatFailsIsOneErrorAndTheSameCommandSucceedsLater) {
  fail_everywhere([](const auto& match, const auto& nth) { return Faults{.match = match, .fsync = nth}; });
}

TEST(Packing, WithoutAMemoOfDigestsGoesOn) {
  const SmallJob job(40, 8, 8);
  expect_success(run(job.pack_command(), job.options(Faults{.match = "digests.json", .write = "1+"})));
  EXPECT_FALSE(fs::exists(job / "artifacts/digests.json"));
  EXPECT_EQ(temporaries(job), std::vector<std::string>{});
}

// ---------------------------------------------------------------- training

TEST(Disk, CheckpointsThatCannotBeWrittenAreToldAndTheBitsAreTheSame) {
  for (const auto& faults : {Faults{.match = "/ckpt-", .write = "1+"}, Faults{.match = "/ckpt-", .fsync = "1+"}}) {
    const SmallJob job;
    expect_success(job.pack(kFourEpochs));
    const auto result = run(job.ddp_command(2, kFourEpochs), job.options(faults));
    expect_success(result);
    EXPECT_TRUE(contains(result.err, "could not be written")) << result.all();
    EXPECT_TRUE(contains(result.err, "Input/output error. Training goes on; there is none to go on from yet"));
    EXPECT_FALSE(contains(result.err, "the newest one is"));
    expect_same(wanted(), outcome_of(job));
    EXPECT_EQ(temporaries(job), std::vector<std::string>{});
  }
}

TEST(Disk, AResultThatCannotBeWrittenIsOneErrorAndTheSameCommandGoesOn) {
  const SmallJob job;
  expect_success(job.pack(kFourEpochs));
  const auto fail = [&](const std::string& file, const Faults& faults) {
    SCOPED_TRACE(file);
    expect_one_error(job, run(job.ddp_command(2, kFourEpochs), job.options(faults)), {file, "Input/output error"});
    EXPECT_FALSE(fs::exists(job / "logs/run/results.json"));
  };
  const std::vector<std::pair<std::string, std::string>> writes{
      {"teacher.safetensors", "2"},      {"teacher.pth", "1"},        {"blocks.journal", "2"},
      {"teacher_outputs.h5", "2"},       {"teacher_outputs.h5", "5"}, {"student_best.safetensors", "1"},
      {"student_final.pth", "3"},        {"summary.json", "1"},       {"scores.json", "1"},
      {"predictions_student_test", "1"}, {"model.safetensors", "1"},  {"results.json", "1"}};
  for (const auto& [file, nth] : writes) {
    fail(file, {.match = file, .write = nth});
    if (::testing::Test::HasFailure()) return;
  }
  fail("results.json", {.match = "results.json", .fsync = "1"});
  expect_success(job.ddp(2, kFourEpochs));
  expect_same(wanted(), outcome_of(job));
  EXPECT_EQ(job.unfinished(), std::vector<std::string>{});
  EXPECT_EQ(temporaries(job), std::vector<std::string>{});
}

TEST(Disk, ShortWritesGiveTheSameBitsAndTellEverythingOnce) {
  const SmallJob job;
  expect_success(job.pack(kFourEpochs));
  const auto result = run(job.ddp_command(2, kFourEpochs), job.options(Faults{.short_writes = true}));
  expect_success(result);
  EXPECT_FALSE(contains(result.err, "cannot be written")) << result.all();
  expect_same(wanted(), outcome_of(job));
  std::istringstream events(job.read("logs/run/events.jsonl"));
  int epochs = 0;
  for (std::string line; std::getline(events, line);) epochs += Row::parse(line).at("event") == "epoch" ? 1 : 0;
  EXPECT_EQ(epochs, 4 + 4);
}

TEST(Disk, ASlowOneGivesTheSameBits) {
  const SmallJob job;
  expect_success(job.pack(kFourEpochs));
  expect_success(run(job.ddp_command(2, kFourEpochs), job.options(Faults{.delay_ms = 3})));
  expect_same(wanted(), outcome_of(job));
}

// ---------------------------------------------------------------- the clock

TEST(Clock, JumpsHarmNothing) {
  const SmallJob job;
  auto sets = kFourEpochs;
  sets.emplace_back("watchdog.dead_after=2");
  sets.emplace_back("watchdog.stalled_after=60");
  expect_success(job.pack(sets));
  constexpr int kHour = 3600;
  Process process(job.ddp_command(2, sets), job.options(Faults{.clock = job / "clock"}));
  for (const auto& [line, hours] : std::vector<std::pair<std::string, int>>{{"teacher: epoch 2 ", 5},
                                                                            {"teacher: epoch 4 ", -7},
                                                                            {"student: epoch 1 ", 30 * 24},
                                                                            {"student: epoch 3 ", -30 * 24}}) {
    ASSERT_TRUE(process.wait_until([&, said = line] { return process.err().find(said) != std::string::npos; }))
        << process.wait().all();
    job.write("clock.new", std::to_string(hours * kHour) + "\n");
    fs::rename(job / "clock.new", job / "clock");
  }
  const auto result = process.wait();
  expect_success(result);
  expect_same(wanted(), outcome_of(job));
  EXPECT_EQ(job.unfinished(), std::vector<std::string>{});
}

}  // namespace
}  // namespace mmkd::test
