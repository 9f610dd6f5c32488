#include <gtest/gtest.h>

#include <csignal>

#include "mmkd/base/error.h"
#include "tests/support/small_job.h"

// Programs that are stopped, gently or not, and started again: the result is that of a run that was never disturbed.
namespace mmkd::test {
namespace {

namespace fs = std::filesystem;

const std::vector<std::string> kTwelveEpochs{"training.teacher_epochs=12", "training.student_epochs=12"};
// A teacher that is slow enough to be stopped while its outputs are computed.
const std::vector<std::string> kSlowTeacher{
    "teacher.vision={family: vit, image_size: 64, patch_size: 4, hidden_size: 64, num_hidden_layers: 3, "
    "num_attention_heads: 4}",
    "student.vision={family: vit, image_size: 64, patch_size: 16, hidden_size: 16, num_hidden_layers: 1, "
    "num_attention_heads: 2}"};

/// Pack, and the outcome of an undisturbed run; then everything but the shards is removed again.
Outcome undisturbed(const SmallJob& job, const std::vector<std::string>& sets) {
  const auto packed = job.pack(sets);
  EXPECT_EQ(packed.exit_code, 0) << packed.all();
  const auto whole = job.ddp(2, sets);
  EXPECT_EQ(whole.exit_code, 0) << whole.all();
  const auto outcome = outcome_of(job);
  for (const char* stage : {"teacher", "cache", "student", "test"})
    fs::remove_all(job / ("artifacts/" + std::string(stage)));
  fs::remove_all(job / "logs");
  return outcome;
}

void finish_and_compare(const SmallJob& job, const std::vector<std::string>& sets, const Outcome& want) {
  const auto rerun = job.ddp(2, sets);
  ASSERT_EQ(rerun.exit_code, 0) << rerun.all();
  expect_same(want, outcome_of(job));
  EXPECT_EQ(job.unfinished(), std::vector<std::string>{});
}

bool in_work(const SmallJob& job, const std::string& stage, const std::string& name) {
  std::error_code none;
  for (const auto& entry : fs::directory_iterator(job / ("artifacts/" + stage), none)) {
    if (entry.path().extension() == ".work" && fs::exists(entry.path() / name)) return true;
  }
  return false;
}

TEST(Killed, InTeacherAndStudentGoesOnToTheSameBits) {
  const SmallJob job;
  const auto want = undisturbed(job, kTwelveEpochs);
  for (const char* line : {"teacher: epoch 2 ", "teacher: epoch 7 ", "student: epoch 3 ", "student: epoch 8 "}) {
    Process process(job.ddp_command(2, kTwelveEpochs), job.options());
    ASSERT_TRUE(process.wait_until([&] { return process.err().find(line) != std::string::npos; }))
        << process.wait().all();
    process.kill_everything();
    EXPECT_NE(process.wait().exit_code, 0);
  }
  const auto rerun = job.ddp(2, kTwelveEpochs);
  ASSERT_EQ(rerun.exit_code, 0) << rerun.all();
  EXPECT_TRUE(contains(rerun.err, "teacher: reused "));
  EXPECT_TRUE(contains(rerun.err, "student: going on from the checkpoint"));
  expect_same(want, outcome_of(job));
  EXPECT_TRUE(contains(all_files(job / "logs/run").at("metrics.csv"), "\n12,"));
}

TEST(Killed, WhileOutputsAreCachedGoesOnToTheSameBits) {
  const SmallJob job(600, 24, 24);
  auto sets = kSlowTeacher;
  sets.insert(sets.end(), {"data.batch_size=64", "training.student_epochs=1"});
  const auto want = undisturbed(job, sets);
  Process process(job.ddp_command(2, sets), job.options());
  ASSERT_TRUE(process.wait_until([&] { return in_work(job, "cache", "blocks.journal"); })) << process.wait().all();
  process.kill_everything();
  (void)process.wait();
  ASSERT_TRUE(in_work(job, "cache", "blocks.journal")) << "it was too fast to be stopped in the middle";
  finish_and_compare(job, sets, want);
}

TEST(Killed, OneRankEndsTheOthersAndTheRunGoesOnLater) {
  const SmallJob job;
  const auto want = undisturbed(job, kTwelveEpochs);
  Process process(job.ddp_command(2, kTwelveEpochs), job.options());
  ASSERT_TRUE(process.wait_until([&] { return process.err().find("teacher: epoch 4 ") != std::string::npos; }));
  const auto ranks = process.ranks();
  ASSERT_EQ(ranks.size(), 2U);
  ASSERT_EQ(kill(ranks[1], SIGKILL), 0);
  const auto result = process.wait();
  EXPECT_FALSE(result.timed_out) << result.all();
  EXPECT_NE(result.exit_code, 0);
  finish_and_compare(job, kTwelveEpochs, want);
}

constexpr int kInterrupted = static_cast<int>(ExitCode::interrupted);

/// Stops the job when it has said `line`; it must leave a checkpoint and end with the code for that.
void stop_at(const SmallJob& job, const std::string& line, const std::function<void(const Process&)>& stop) {
  Process process(job.ddp_command(2, kTwelveEpochs), job.options());
  ASSERT_TRUE(process.wait_until([&] { return process.err().find(line) != std::string::npos; }))
      << process.wait().all();
  stop(process);
  const auto result = process.wait();
  EXPECT_EQ(result.exit_code, kInterrupted) << result.all();
  ASSERT_EQ(own_errors(result.err).size(), 1U) << result.all();
  EXPECT_TRUE(contains(own_errors(result.err).front(), "a checkpoint is on disk"));
}

TEST(Stopped, ByTheLaunchersSignalGoesOnToTheSameBits) {
  const SmallJob job;
  const auto want = undisturbed(job, kTwelveEpochs);
  // What mpirun hands on at once. (SIGTERM it answers itself: it waits, and gives its own exit code.)
  const auto usr2 = [](const Process& process) { process.send(SIGUSR2); };
  stop_at(job, "teacher: epoch 3 ", usr2);
  stop_at(job, "student: epoch 5 ", usr2);
  finish_and_compare(job, kTwelveEpochs, want);
}

TEST(Stopped, OneRankAloneStopsThemAllAtTheSameStep) {
  const SmallJob job;
  const auto want = undisturbed(job, kTwelveEpochs);
  for (const std::size_t rank : {0U, 1U}) {
    stop_at(job, rank == 0 ? "teacher: epoch 3 " : "student: epoch 4 ", [&](const Process& process) {
      const auto ranks = process.ranks();
      ASSERT_EQ(ranks.size(), 2U);
      ASSERT_EQ(kill(ranks[rank], SIGTERM), 0);
    });
  }
  finish_and_compare(job, kTwelveEpochs, want);
}

TEST(Stopped, BySigtermToMpirunLeavesACheckpoint) {
  const SmallJob job;
  const std::vector<std::string> sets{"training.teacher_epochs=3000"};
  ASSERT_EQ(job.pack(sets).exit_code, 0);
  Process process(job.ddp_command(2, sets), job.options());
  ASSERT_TRUE(process.wait_until([&] { return process.err().find("teacher: epoch 3 ") != std::string::npos; }));
  process.send(SIGTERM);
  const auto result = process.wait();
  EXPECT_FALSE(result.timed_out);
  EXPECT_NE(result.exit_code, 0);
  // A second later mpirun kills: whether there is time for a last checkpoint depends on the machine. Those before are
  // there. (launch/run.sh gives the time: RunScript.HandsOnSignals….)
  bool whole = false;
  for (const auto& entry : fs::recursive_directory_iterator(job / "artifacts/teacher"))
    whole = whole || (entry.path().filename() == "manifest.json" && !entry.path().parent_path().has_extension());
  EXPECT_TRUE(whole);
}

// A word that no batch after the restart has goes on by its moments.
TEST(Resume, OfWordsThatBatchesSeldomHaveGivesTheSameBits) {
  const std::string wide =
      "text={family: bert, hidden_size: 192, num_hidden_layers: 1, num_attention_heads: 2, "
      "max_position_embeddings: 32}";
  const std::vector<std::string> sets{"data.batch_size=2", "training.teacher_epochs=4", "training.student_epochs=4",
                                      "teacher." + wide, "student." + wide};
  const SmallJob job(20, 8, 8);
  const auto want = undisturbed(job, sets);
  for (const char* line : {"teacher: epoch 2 ", "student: epoch 2 "}) {
    Process process(job.ddp_command(2, sets), job.options());
    ASSERT_TRUE(process.wait_until([&] { return contains(process.err(), line); })) << process.wait().all();
    process.kill_everything();
    process.wait();
  }
  const auto rerun = job.ddp(2, sets);
  ASSERT_EQ(rerun.exit_code, 0) << rerun.all();
  EXPECT_TRUE(contains(rerun.err, "going on from"));
  expect_same(want, outcome_of(job));
}

TEST(Resume, OnAnotherNumberOfRanksAgreesToRounding) {
  const SmallJob job;
  (void)undisturbed(job, kTwelveEpochs);
  stop_at(job, "teacher: epoch 3 ", [](const Process& process) { process.send(SIGUSR2); });
  const auto rerun = job.ddp(3, kTwelveEpochs);
  ASSERT_EQ(rerun.exit_code, 0) << rerun.all();
  EXPECT_TRUE(contains(rerun.err, "2 ranks"));
  EXPECT_TRUE(contains(rerun.err, "not bit for bit"));
}

TEST(Resume, NeverStartsAnewAndGivesTheSameBits) {
  const SmallJob job;
  const auto want = undisturbed(job, kTwelveEpochs);
  stop_at(job, "teacher: epoch 3 ", [](const Process& process) { process.send(SIGUSR2); });
  const auto rerun = job.ddp(2, kTwelveEpochs, {"--resume", "never"});
  ASSERT_EQ(rerun.exit_code, 0) << rerun.all();
  EXPECT_EQ(rerun.err.find("going on from"), std::string::npos);
  expect_same(want, outcome_of(job));
}

TEST(Resume, OfAnotherConfigurationIsRefusedWithTheKeysThatDiffer) {
  const SmallJob job;
  ASSERT_EQ(job.pack(kTwelveEpochs).exit_code, 0);
  const auto nothing = run(on_ranks(2, {MMKD_DDP, "job.yaml", "--resume", "must"}), job.options());
  EXPECT_EQ(nothing.exit_code, 2) << nothing.all();
  EXPECT_TRUE(contains(nothing.err, "holds no interrupted run")) << nothing.all();
  stop_at(job, "teacher: epoch 3 ", [](const Process& process) { process.send(SIGUSR2); });
  auto sets = kTwelveEpochs;
  sets.emplace_back("training.teacher_lr=2.0e-3");
  sets.emplace_back("data.num_workers=2");  // decides nothing
  const auto refused = job.ddp(2, sets, {"--resume", "must"});
  EXPECT_EQ(refused.exit_code, 2) << refused.all();
  EXPECT_TRUE(contains(refused.err, "training.teacher_lr: 0.001 before, 0.002 now")) << refused.all();
  EXPECT_FALSE(contains(refused.err, "num_workers")) << refused.all();
  const auto warned = job.ddp(2, sets);
  EXPECT_EQ(warned.exit_code, 0) << warned.all();
  EXPECT_TRUE(contains(warned.err, "training.teacher_lr: 0.001 before, 0.002 now")) << warned.all();
}

TEST(Resume, GoesOnWhereItMust) {
  const SmallJob job;
  const auto want = undisturbed(job, kTwelveEpochs);
  stop_at(job, "teacher: epoch 3 ", [](const Process& process) { process.send(SIGUSR2); });
  const auto rerun = job.ddp(2, kTwelveEpochs, {"--resume", "must"});
  ASSERT_EQ(rerun.exit_code, 0) << rerun.all();
  EXPECT_TRUE(contains(rerun.err, "teacher: going on from the checkpoint"));
  expect_same(want, outcome_of(job));
}

TEST(Resume, SkipsADamagedCheckpoint) {
  const SmallJob job;
  const auto want = undisturbed(job, kTwelveEpochs);
  stop_at(job, "teacher: epoch 5 ", [](const Process& process) { process.send(SIGUSR2); });
  fs::path newest;
  for (const auto& entry : fs::recursive_directory_iterator(job / "artifacts/teacher")) {
    if (entry.path().filename() == "tensors.safetensors" &&
        (newest.empty() || fs::last_write_time(entry.path()) > fs::last_write_time(newest)))
      newest = entry.path();
  }
  fs::resize_file(newest, fs::file_size(newest) - 1);
  const auto rerun = job.ddp(2, kTwelveEpochs);
  ASSERT_EQ(rerun.exit_code, 0) << rerun.all();
  EXPECT_TRUE(contains(rerun.err, "is not used"));
  expect_same(want, outcome_of(job));
}

// ---------------------------------------------------------------- packing

TEST(Packing, IsTheSameOnAnyNumberOfRanksAndThreads) {
  const SmallJob job(600, 100, 100);
  ASSERT_EQ(job.pack().exit_code, 0);
  const auto want = all_files(job.artifact("pack"));
  ASSERT_EQ(want.size(), 2U + 19U + 4U + 4U) << "manifest, stage.json and shards of 32";
  for (const int ranks : {1, 2, 3}) {
    for (const char* threads : {"0", "1", "4"}) {
      fs::remove_all(job / "artifacts");
      const auto packed = job.pack({std::string("data.num_workers=") + threads}, ranks);
      ASSERT_EQ(packed.exit_code, 0) << packed.all();
      EXPECT_TRUE(all_files(job.artifact("pack")) == want) << ranks << " ranks of " << threads << " threads";
    }
  }
}

TEST(Packing, KilledAtAnyMomentIsFinishedByTheNextRunToTheSameBytes) {
  const SmallJob job(600, 100, 100);
  ASSERT_EQ(job.pack().exit_code, 0);
  const auto want = all_files(job.artifact("pack"));
  const auto shards = [&] {
    std::size_t count = 0;
    std::error_code none;
    for (fs::recursive_directory_iterator at(job / "artifacts", none), end; at != end; at.increment(none))
      count += at->path().extension() == ".h5" ? 1 : 0;
    return count;
  };
  int stopped = 0;
  for (const int ranks : {0, 2}) {
    fs::remove_all(job / "artifacts");
    for (const std::size_t moment : {0U, 1U, 5U, 12U, 20U, 26U}) {  // shards there when it is killed
      Process process(job.pack_command({}, ranks), job.options());
      process.wait_until([&] { return shards() >= moment; });
      process.kill_everything();
      if (process.wait().exit_code != 0) ++stopped;
    }
    const auto packed = job.pack({}, ranks);
    ASSERT_EQ(packed.exit_code, 0) << packed.all();
    EXPECT_TRUE(all_files(job.artifact("pack")) == want);
  }
  EXPECT_GE(stopped, 6) << "most attempts must have been stopped for this to say anything";
}

}  // namespace
}  // namespace mmkd::test
