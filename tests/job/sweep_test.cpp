#include <gtest/gtest.h>

#include <csignal>

#include "tests/support/small_job.h"

// `mmkd sweep` as people use it on one machine.
namespace mmkd::test {
namespace {

namespace fs = std::filesystem;

class SweepRuns : public ::testing::Test {
 protected:
  ProcessResult sweep(const std::string& command, const std::vector<std::string>& arguments = {}) const {
    return run(this->command(command, arguments), job_.options());
  }
  static std::vector<std::string> command(const std::string& command, const std::vector<std::string>& arguments) {
    std::vector<std::string> all{MMKD_TOOL, "sweep", command, "sweep.yaml"};
    all.insert(all.end(), arguments.begin(), arguments.end());
    return all;
  }
  std::size_t finished(const std::string& stage) const {
    std::size_t count = 0;
    std::error_code none;
    for (const auto& entry : fs::directory_iterator(job_ / ("artifacts/" + stage), none))
      count += fs::exists(entry.path() / "stage.json") ? 1 : 0;
    return count;
  }

  SmallJob job_{40, 12, 12};
};

TEST_F(SweepRuns, ShareWhatTheyHaveInCommonAndBuildOnlyWhatIsMissing) {
  job_.write("sweep.yaml", "base: job.yaml\ngrid: {loss.type: [vanilla, rkd]}\nseeds: [0]\n");
  const auto plan = sweep("plan");
  EXPECT_EQ(plan.exit_code, 0) << plan.all();
  EXPECT_TRUE(contains(plan.out, "2 runs, 7 stages"));
  EXPECT_TRUE(contains(plan.out, "sharing saves 3"));
  const auto first = sweep("run", {"-n", "2"});
  ASSERT_EQ(first.exit_code, 0) << first.all();
  EXPECT_TRUE(contains(first.out, "7 stages built, 0 were there"));
  EXPECT_EQ(finished("teacher"), 1u);
  EXPECT_EQ(finished("cache"), 1u);
  EXPECT_EQ(finished("student"), 2u);
  EXPECT_TRUE(contains(sweep("status").out, "7 stages: 7 done"));

  // One student is lost: that is built again, and nothing else.
  std::string student;
  for (const auto& entry : fs::directory_iterator(job_ / "artifacts/student")) student = entry.path().string();
  fs::remove_all(student);
  const auto second = sweep("run", {"-n", "2"});
  EXPECT_EQ(second.exit_code, 0) << second.all();
  EXPECT_TRUE(contains(second.out, "1 stages built, 6 were there"));
  EXPECT_TRUE(fs::exists(student));
  const auto third = sweep("run");
  EXPECT_TRUE(contains(third.out, "0 stages built, 7 were there"));

  const auto report = run({MMKD_TOOL, "report", "sweep.yaml"}, job_.options());
  EXPECT_EQ(report.exit_code, 0) << report.all();
  EXPECT_TRUE(contains(report.out, "| rkd |"));
}

TEST_F(SweepRuns, AFailedNodeHoldsUpOnlyWhatNeedsIt) {
  // A learning rate at which every step is unusable ends that student.
  job_.write("sweep.yaml",
             "base: job.yaml\nset: {training.max_bad_steps: 0}\n"
             "list: [{name: bad, training.student_lr: 1e30}, {name: good, training.student_lr: 1e-3}]\n");
  const auto result = sweep("run", {"-n", "1"});
  EXPECT_EQ(result.exit_code, 1) << result.all();
  EXPECT_TRUE(contains(result.out, "FAILED, exit code 1: mmkd-ddp: student: step "));
  EXPECT_TRUE(contains(result.out, "5 stages built, 0 were there, 1 failed, 1 not possible"));
  EXPECT_TRUE(fs::exists(job_ / "logs/sweep/good/results.json"));
  EXPECT_FALSE(fs::exists(job_ / "logs/sweep/bad/results.json"));
  const auto status = sweep("status");
  EXPECT_TRUE(contains(status.out, "5 done, 1 failed, 1 blocked"));
}

TEST_F(SweepRuns, AreCancelledWithACheckpointAndGoOn) {
  job_.write("sweep.yaml", "base: job.yaml\nset: {training.teacher_epochs: 300}\nlist: [{fusion.type: film}]\n");
  Process process(command("run", {"-n", "1"}), job_.options());
  const auto log = [&] {
    std::error_code none;
    for (const auto& entry : fs::directory_iterator(job_ / "logs/sweep/.sweep/nodes", none)) {
      const auto name = entry.path().filename().string();
      if (name.starts_with("teacher-") && name.ends_with(".log")) return job_.read("logs/sweep/.sweep/nodes/" + name);
    }
    return std::string();
  };
  ASSERT_TRUE(process.wait_until([&] { return log().find("teacher: epoch 3 ") != std::string::npos; })) << log();
  EXPECT_TRUE(contains(sweep("status").out, "1 running"));
  const auto twice = sweep("run");
  EXPECT_EQ(twice.exit_code, 2);
  EXPECT_TRUE(contains(twice.err, "runs this sweep already"));
  EXPECT_TRUE(contains(sweep("cancel").out, "asked to stop"));
  const auto stopped = process.wait();
  EXPECT_EQ(stopped.exit_code, 75) << stopped.all();
  EXPECT_TRUE(contains(stopped.out, "stopped, with a checkpoint"));
  EXPECT_TRUE(contains(sweep("status").out, "1 interrupted"));
  EXPECT_TRUE(contains(sweep("cancel").out, "nothing of this sweep runs here"));
}

TEST_F(SweepRuns, SayWhatIsWrongWithThemBeforeAnythingRuns) {
  job_.write("sweep.yaml", "base: job.yaml\ngrid: {fusion.type: [simple, filmm]}\n");
  const auto wrong = sweep("run");
  EXPECT_EQ(wrong.exit_code, 2);
  ASSERT_EQ(own_errors(wrong.err).size(), 1u) << wrong.err;
  EXPECT_TRUE(contains(wrong.err, "did you mean \"film\""));
  EXPECT_FALSE(fs::exists(job_ / "logs"));
  EXPECT_EQ(sweep("submit").exit_code, 2);
}

}  // namespace
}  // namespace mmkd::test
