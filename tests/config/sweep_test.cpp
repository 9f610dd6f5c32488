#include "mmkd/config/sweep.h"

#include <gtest/gtest.h>

#include "mmkd/base/files.h"
#include "mmkd/config/slurm_profile.h"
#include "tests/config/config_testing.h"
#include "tests/support/temp_folder.h"

namespace mmkd {
namespace {

using config_testing::kMinimal;

class Sweeps : public ::testing::Test {
 protected:
  Sweeps() { write_file_atomic(folder_ / "base.yaml", kMinimal); }

  Sweep load(const std::string& yaml, const std::vector<std::string>& overrides = {}) const {
    write_file_atomic(folder_ / "study.yaml", yaml);
    return load_sweep(folder_ / "study.yaml", overrides);
  }
  std::string error(const std::string& yaml, const std::vector<std::string>& overrides = {}) const {
    try {
      load(yaml, overrides);
    } catch (const ConfigError& e) {
      return e.what();
    }
    return "";
  }
  static std::vector<std::string> names(const Sweep& sweep) {
    std::vector<std::string> result;
    for (const auto& run : sweep.runs) result.push_back(run.name);
    return result;
  }

  test::TempFolder folder_;
};

using Names = std::vector<std::string>;

TEST_F(Sweeps, OfAGridHaveEveryCombination) {
  const auto sweep = load("base: base.yaml\ngrid:\n  fusion.type: [simple, film]\n  loss.type: [crd, rkd]\n");
  EXPECT_EQ(sweep.name, "study");
  EXPECT_EQ(names(sweep), (Names{"simple-crd", "simple-rkd", "film-crd", "film-rkd"}));
  const auto& last = sweep.runs.back().loaded.config;
  EXPECT_EQ(last.fusion.type, FusionType::film);
  EXPECT_EQ(last.loss.type, LossType::rkd);
  EXPECT_EQ(last.logging.log_dir, fs::path("logs/study/film-rkd"));
  EXPECT_EQ(last.artifacts.root, fs::path("artifacts"));
  EXPECT_EQ(sweep.runs.back().settings,
            (std::vector<std::pair<std::string, std::string>>{{"fusion.type", "film"}, {"loss.type", "rkd"}}));
}

TEST_F(Sweeps, RunEachForEverySeedInAFolderOfItsOwn) {
  const auto sweep = load("base: base.yaml\ngrid: {fusion.type: [film]}\nseeds: [3, 4]\n");
  EXPECT_EQ(names(sweep), (Names{"film/seed-3", "film/seed-4"}));
  EXPECT_EQ(sweep.runs[1].loaded.config.training.seed, 4);
  EXPECT_EQ(sweep.runs[1].loaded.config.logging.log_dir, fs::path("logs/study/film/seed-4"));
}

TEST_F(Sweeps, CrossTheirListWithTheGridAndLeaveOutWhatIsExcluded) {
  const auto sweep = load(
      "base: base.yaml\n"
      "list:\n"
      "  - {name: small, student.vision: deit-tiny, student.text: bert-mini}\n"
      "  - {name: large, student.vision: vit-base, student.text: distilbert}\n"
      "grid: {loss.type: [vanilla, crd]}\n"
      "exclude: [{student.vision: vit-base, loss.type: crd}]\n");
  EXPECT_EQ(names(sweep), (Names{"small-vanilla", "small-crd", "large-vanilla"}));
  EXPECT_EQ(sweep.runs[2].loaded.config.student.vision.name, "vit-base");
}

TEST_F(Sweeps, HaveSeveralBasesAndNamesOfTheUsersChoice) {
  write_file_atomic(folder_ / "other.yaml", kMinimal + std::string("training: {student_epochs: 9}\n"));
  const auto sweep = load(
      "base: {a: base.yaml, b: other.yaml}\ngrid: {fusion.type: [film]}\nname: '{fusion.type} on {base}'\n"
      "sweep: my study\nlogs: out/here\nartifacts: elsewhere\nset: {training.teacher_epochs: 7}\n",
      {"training.teacher_lr=0.5"});
  EXPECT_EQ(names(sweep), (Names{"film-on-a", "film-on-b"}));
  EXPECT_EQ(sweep.name, "my-study");
  const auto& config = sweep.runs[1].loaded.config;
  EXPECT_EQ(config.training.student_epochs, 9);
  EXPECT_EQ(config.training.teacher_epochs, 7);
  EXPECT_EQ(config.training.teacher_lr, 0.5);
  EXPECT_EQ(config.logging.log_dir, fs::path("out/here/film-on-b"));
  EXPECT_EQ(config.artifacts.root, fs::path("elsewhere"));
}

TEST_F(Sweeps, TakeValuesThatAreListsAndMaps) {
  const auto sweep = load(
      "base: base.yaml\n"
      "grid:\n"
      "  training.betas: [[0.9, 0.99], [0.8, 0.999]]\n"
      "  loss: [{terms: [{ce: 1}, {kl: {weight: 2, T: 3}}]}, {type: crd, tau: 0.2}]\n"
      "name: '{training.betas}-{loss}'\n");
  ASSERT_EQ(sweep.runs.size(), 4u);
  EXPECT_EQ(sweep.runs[2].loaded.config.training.betas[0], 0.8);
  EXPECT_EQ(sweep.runs[2].loaded.config.loss.terms.at(1).T, 3);
  EXPECT_EQ(sweep.runs[3].loaded.config.loss.tau, 0.2);
}

TEST_F(Sweeps, SayWhatIsWrongAndWhere) {
  EXPECT_EQ(error("grids: {a: [1]}\nbase: base.yaml\n"),
            (folder_ / "study.yaml").string() + ":1:1: grids: unknown key of a sweep; did you mean \"grid\"?");
  EXPECT_NE(error("grid: {fusion.type: [film]}\n").find("base: is missing"), std::string::npos);
  EXPECT_NE(error("base: base.yaml\ngrid: {fusion.type: film}\n").find(":2:21: grid.fusion.type: expected a list"),
            std::string::npos);
  EXPECT_NE(error("base: base.yaml\nseeds: [a, -1]\n").find("expected whole numbers"), std::string::npos);
  const auto wrong = error("base: base.yaml\ngrid: {fusion.type: [simple, filmm]}\n");
  EXPECT_NE(wrong.find("run filmm"), std::string::npos) << wrong;
  EXPECT_NE(wrong.find("did you mean \"film\""), std::string::npos) << wrong;
  EXPECT_NE(error("base: base.yaml\ngrid: {fusion.type: [film]}\nname: x-{loss.type}\n").find("no key that varies"),
            std::string::npos);
  EXPECT_NE(error("base: base.yaml\ngrid: {fusion.type: [film, simple]}\nname: x\n").find("two runs are called x"),
            std::string::npos);
  EXPECT_NE(error("base: base.yaml\ngrid: {fusion.type: [film]}\nexclude: [{fusion.type: film}]\n")
                .find("every run is excluded"),
            std::string::npos);
  EXPECT_NE(error("base: nowhere.yaml\n").find("nowhere.yaml"), std::string::npos);
  EXPECT_NE(error("base: base.yaml\nset: {training.seeds: [1, 2]}\n").find("`seeds` of the sweep"), std::string::npos);
  EXPECT_NE(error("base: base.yaml\nset: {logging.log_dir: x}\n").find("`logs` of the sweep"), std::string::npos);
  EXPECT_NE(error("base: base.yaml\n", {"artifacts.root=x"}).find("`artifacts` of the sweep"), std::string::npos);
}

TEST_F(Sweeps, NamesNeverLeaveTheirFolder) {
  const auto sweep =
      load("base: base.yaml\nlist: [{name: ../../etc/x, training.seed: 1}, {name: 'a/b c', training.seed: 2}]\n");
  EXPECT_EQ(names(sweep), (Names{"-..-etc-x", "a-b-c"}));
}

class SlurmProfiles : public ::testing::Test {
 protected:
  SlurmProfile load(const std::string& yaml) const {
    write_file_atomic(folder_ / "p.yaml", yaml);
    return load_slurm_profile(folder_ / "p.yaml");
  }
  test::TempFolder folder_;
};

TEST_F(SlurmProfiles, GiveStagesWhatTheyDifferIn) {
  const auto profile = load(
      "partition: gpu\ngpus_per_node: 4\nranks_per_node: 4\ntime: \"04:00:00\"\nlauncher: srun\n"
      "setup: |\n  module load openmpi\n  export A=1\nenvironment: {NCCL_DEBUG: INFO}\nextra: [--exclusive]\n"
      "stages:\n  pack: {gpus_per_node: 0, ranks_per_node: 1, partition: cpu}\n");
  EXPECT_EQ(profile.of("teacher").partition, "gpu");
  EXPECT_EQ(profile.of("teacher").gpus_per_node, 4);
  EXPECT_EQ(profile.of("pack").partition, "cpu");
  EXPECT_EQ(profile.of("pack").gpus_per_node, 0);
  EXPECT_EQ(profile.of("pack").time, "04:00:00");
  EXPECT_EQ(profile.launcher, "srun");
  EXPECT_EQ(profile.setup, "module load openmpi\nexport A=1\n");
  EXPECT_EQ(profile.environment.at("NCCL_DEBUG"), "INFO");
  EXPECT_EQ(profile.of("test").extra, std::vector<std::string>{"--exclusive"});
}

TEST_F(SlurmProfiles, SayWhatIsWrong) {
  const auto error = [&](const std::string& yaml) -> std::string {
    try {
      load(yaml);
    } catch (const ConfigError& e) {
      return e.what();
    }
    return "";
  };
  EXPECT_NE(error("partitoin: gpu\n").find("did you mean \"partition\""), std::string::npos);
  EXPECT_NE(error("nodes: 0\n").find("at least 1, found \"0\""), std::string::npos);
  EXPECT_NE(error("launcher: ssh\n").find("expected \"mpirun\" or \"srun\""), std::string::npos);
  EXPECT_NE(error("stages: {teachers: {}}\n").find("no such stage"), std::string::npos);
  EXPECT_EQ(error(""), "");
}

TEST(SlurmProfile, OfTheProjectIsValid) {
  const auto profile = load_slurm_profile(fs::path(MMKD_SOURCE_DIR) / "slurm" / "profile.yaml");
  EXPECT_EQ(profile.launcher, "mpirun");
  EXPECT_EQ(profile.of("pack").time, "02:00:00");
  EXPECT_EQ(profile.of("student").time, "12:00:00");
}

}  // namespace
}  // namespace mmkd
