#include <gtest/gtest.h>

#include <algorithm>

#include "mmkd/base/error.h"
#include "mmkd/base/files.h"
#include "mmkd/config/print.h"
#include "mmkd/stages/lock.h"
#include "mmkd/sweep/local.h"
#include "mmkd/sweep/show.h"
#include "tests/data/small_set.h"

namespace mmkd {
namespace {

/// A sweep over the small set, with towers that are never built here.
class SweepGraphs : public ::testing::Test {
 protected:
  SweepGraphs() {
    set_.config.student.vision.patch_size = set_.config.teacher.vision.patch_size = 8;
    write_file_atomic(set_.folder / "base.yaml", to_yaml(set_.config));
  }

  SweepGraph graph(const std::string& yaml) const {
    const auto file = set_.folder / "sweep.yaml";
    write_file_atomic(file, "base: base.yaml\nlogs: " + (set_.folder / "logs/sweep").string() + "\n" + yaml);
    return plan_sweep(load_sweep(file), "cpu");
  }

  static std::size_t count(const SweepGraph& graph, const std::string& stage) {
    return static_cast<std::size_t>(
        std::count_if(graph.nodes.begin(), graph.nodes.end(), [&](const auto& node) { return node.stage == stage; }));
  }
  static std::size_t number(const SweepGraph& graph, const std::string& stage, std::size_t which = 0) {
    for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
      if (graph.nodes[i].stage == stage && which-- == 0) return i;
    }
    return graph.nodes.size();
  }
  /// As if it had been built.
  static void finish(const SweepGraph& graph, std::size_t node) {
    const StageStore store(artifacts_root(graph.config_of(graph.nodes[node])));
    store.build(graph.nodes[node].inputs, {}, [](const fs::path& folder) { write_file_atomic(folder / "x", "x"); });
  }

  test::SmallSet set_;
};

TEST_F(SweepGraphs, GiveCoresToTheNodesThatMayRunAtTheSameTime) {
  const auto sweep = graph("grid: {loss.type: [vanilla, combined, crd]}\n");
  LocalOptions options;
  options.cores = 8;
  const auto threads = [&](const std::string& stage) { return threads_of_node(sweep, number(sweep, stage), options); };
  EXPECT_EQ(threads("student"), 8);
  options.jobs = 2;
  EXPECT_EQ(threads("teacher"), 8);
  EXPECT_EQ(threads("student"), 4);
  options.jobs = 100;
  EXPECT_EQ(threads("student"), 2) << "of three";
  options.launch.ranks = 4;
  EXPECT_EQ(threads("teacher"), 2);
  EXPECT_EQ(threads("student"), 1);
}

TEST_F(SweepGraphs, OfLossesShareTeacherAndCache) {
  const auto sweep = graph("grid: {loss.type: [vanilla, combined, crd, rkd, mmd]}\n");
  EXPECT_EQ(count(sweep, "pack"), 1u);
  EXPECT_EQ(count(sweep, "teacher"), 1u);
  EXPECT_EQ(count(sweep, "cache"), 1u);
  EXPECT_EQ(count(sweep, "student"), 5u);
  EXPECT_EQ(count(sweep, "test"), 5u);
  EXPECT_EQ(sweep.nodes[number(sweep, "teacher")].runs.size(), 5u);
}

TEST_F(SweepGraphs, OfFusionsHaveATeacherForEach) {
  const auto sweep = graph("grid: {fusion.type: [simple, film], loss.type: [vanilla, crd]}\n");
  EXPECT_EQ(count(sweep, "teacher"), 2u);
  EXPECT_EQ(count(sweep, "cache"), 2u);
  EXPECT_EQ(count(sweep, "student"), 4u);
}

TEST_F(SweepGraphs, NameParentsBeforeTheirChildren) {
  const auto sweep = graph("grid: {fusion.type: [simple, film], loss.type: [vanilla, crd]}\nseeds: [0, 1]\n");
  for (std::size_t i = 0; i < sweep.nodes.size(); ++i) {
    const auto& node = sweep.nodes[i];
    EXPECT_EQ(node.parents.empty(), node.stage == "pack") << node.id;
    for (const auto parent : node.parents) EXPECT_LT(parent, i);
  }
}

TEST_F(SweepGraphs, StatusFollowsArtifactsRecordsAndLocks) {
  const auto sweep = graph("grid: {loss.type: [vanilla, crd]}\n");
  const SweepFolder folder(sweep.sweep);
  const auto pack = number(sweep, "pack"), teacher = number(sweep, "teacher"), cache = number(sweep, "cache");
  const auto first = number(sweep, "student"), second = number(sweep, "student", 1);
  EXPECT_EQ(sweep_status(sweep)[pack].state, NodeState::waiting);
  finish(sweep, pack);
  finish(sweep, teacher);
  EXPECT_EQ(sweep_status(sweep)[teacher].state, NodeState::done);
  {
    LockOptions options;
    options.progress = [] { return std::string("epoch 1/2"); };
    const auto lock = StageLock::acquire(
        StageStore(artifacts_root(sweep.config_of(sweep.nodes[cache]))).folder(sweep.nodes[cache].inputs), options);
    const auto status = sweep_status(sweep)[cache];
    EXPECT_EQ(status.state, NodeState::running);
    EXPECT_EQ(status.detail.substr(0, 10), "epoch 1/2 ");
  }
  finish(sweep, cache);
  write_record(folder, sweep.nodes[first].id,
               {.state = "failed", .exit_code = 1, .attempts = 1, .seconds = 3, .error = "no room", .process = {}});
  const auto status = sweep_status(sweep);
  EXPECT_EQ(status[first].state, NodeState::failed);
  EXPECT_EQ(status[first].detail, "exit code 1: no room");
  EXPECT_EQ(status[second].state, NodeState::waiting);
  EXPECT_EQ(status[number(sweep, "test")].state, NodeState::blocked);
  EXPECT_EQ(status[number(sweep, "test", 1)].state, NodeState::waiting);
  const auto text = status_text(sweep, status, false);
  EXPECT_NE(text.find("3 done, 2 waiting, 1 failed, 1 blocked"), std::string::npos) << text;
  EXPECT_NE(text.find("vanilla   3/5 stages  blocked: needs " + sweep.nodes[first].id), std::string::npos) << text;
}

TEST_F(SweepGraphs, StatusKnowsTheJobsOfSlurm) {
  const auto sweep = graph("grid: {loss.type: [vanilla]}\n");
  const auto& node = sweep.nodes[number(sweep, "teacher")];
  const auto state = [&](const std::string& of_job, const std::string& reason = "") {
    const SlurmJobs jobs{{node.id, {"12_3", of_job, reason}}};
    return sweep_status(sweep, jobs)[number(sweep, "teacher")];
  };
  EXPECT_EQ(state("PENDING", "Dependency").state, NodeState::queued);
  EXPECT_EQ(state("PENDING", "Dependency").detail, "job 12_3: PENDING, Dependency");
  EXPECT_EQ(state("RUNNING", "None").state, NodeState::running);
  EXPECT_EQ(state("OUT_OF_MEMORY").state, NodeState::failed);
  EXPECT_EQ(state("").state, NodeState::interrupted);
}

TEST_F(SweepGraphs, PlansSayWhatSharingSaves) {
  const auto sweep = graph("grid: {loss.type: [vanilla, crd, rkd]}\n");
  auto status = sweep_status(sweep);
  auto text = plan_text(sweep, status);
  EXPECT_NE(text.find("0 stages are there, 9 are to be built. Run by run it would be 15 stages; sharing saves 6"),
            std::string::npos)
      << text;
  status[number(sweep, "teacher")].seconds = 60;
  text = plan_text(sweep, status);
  EXPECT_NE(text.find("about 2 min 00 s as measured so far"), std::string::npos) << text;
}

TEST_F(SweepGraphs, TasksSayHowANodeIsBuilt) {
  const auto sweep = graph("grid: {loss.type: [vanilla]}\nseeds: [4]\n");
  const SweepFolder folder(sweep.sweep);
  write_tasks(sweep);
  const auto teacher = read_task(folder, sweep.nodes[number(sweep, "teacher")].id);
  EXPECT_EQ(teacher.until, "teacher");
  EXPECT_EQ(teacher.log_dir.filename(), teacher.id);
  const auto end = read_task(folder, sweep.nodes[number(sweep, "test")].id);
  EXPECT_EQ(end.until, "");
  EXPECT_EQ(end.log_dir, sweep.sweep.logs / "vanilla/seed-4");
  EXPECT_EQ(load_config(end.config).config.training.seed, 4);
  EXPECT_THROW(read_task(folder, "teacher-000"), Error);
}

TEST(SweepErrors, TheLineThatSaysWhy) {
  const test::TempFolder folder;
  const auto log = folder / "log";
  write_file_atomic(log,
                    "I 10:00:00 x\nmmkd-ddp: no room on the disk\n----\nmpirun has exited due to process rank 0\n\n");
  EXPECT_EQ(error_line(log), "mmkd-ddp: no room on the disk");
  write_file_atomic(log, "something else\n\n");
  EXPECT_EQ(error_line(log), "something else");
  EXPECT_EQ(error_line(folder / "none"), "");
}

}  // namespace
}  // namespace mmkd
