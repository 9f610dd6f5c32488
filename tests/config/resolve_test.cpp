#include <gtest/gtest.h>

#include "mmkd/config/config.h"

namespace mmkd {
namespace {

TEST(Slug, IsLowerCaseWithUnderscores) {
  EXPECT_EQ(slug("Body Location"), "body_location");
  EXPECT_EQ(slug("modality"), "modality");
  EXPECT_EQ(slug("  A -- B2 "), "a_b2");
  EXPECT_EQ(slug("Größe"), "gr_e");
  EXPECT_EQ(slug("__x__"), "x");
  EXPECT_EQ(slug("…"), "");
  EXPECT_EQ(slug(""), "");
}

std::vector<std::string> labels_and_columns(const DataConfig& data) {
  std::vector<std::string> result;
  for (const auto& task : resolved_tasks(data)) result.push_back(task.label + "<-" + task.column);
  return result;
}

TEST(ResolvedTasks, OfMedpixAreModalityAndLocation) {
  DataConfig data;
  EXPECT_EQ(labels_and_columns(data), (std::vector<std::string>{"modality<-Type", "location<-Location Category"}));
  data.task2_label = "Body Location";
  EXPECT_EQ(labels_and_columns(data), (std::vector<std::string>{"modality<-Type", "Body Location<-Location Category"}));
}

TEST(ResolvedTasks, OfWoundTakeTheConfiguredColumns) {
  DataConfig data;
  data.type = DatasetType::wound;
  data.type_column = "wound_type";
  data.task1_label = "kind";
  EXPECT_EQ(labels_and_columns(data), (std::vector<std::string>{"kind<-wound_type", "severity<-severity"}));
}

TEST(ResolvedTasks, OfATableAreItsOwn) {
  DataConfig data;
  data.type = DatasetType::table;
  data.tasks = {{"a", "A"}, {"b", "B"}, {"c", "C"}};
  EXPECT_EQ(resolved_tasks(data), data.tasks);
}

std::string root_for(const std::string& log_dir) {
  Config config;
  config.logging.log_dir = log_dir;
  return artifacts_root(config).string();
}

TEST(ArtifactsRoot, LiesBesideTheFolderOfTheLogs) {
  EXPECT_EQ(root_for("logs/run1"), "artifacts");
  EXPECT_EQ(root_for("logs/run1/"), "artifacts");
  EXPECT_EQ(root_for("./logs/run1"), "artifacts");
  EXPECT_EQ(root_for("results/logs/run1"), "results/artifacts");
  EXPECT_EQ(root_for("/scratch/logs/run1"), "/scratch/artifacts");
  EXPECT_EQ(root_for("../logs/run1"), "../artifacts");
}

TEST(ArtifactsRoot, OfALogFolderInTheWorkingFolderLiesThereToo) {
  EXPECT_EQ(root_for("run1"), "artifacts");
  EXPECT_EQ(root_for("run1/"), "artifacts");
}

TEST(ArtifactsRoot, IsTheConfiguredOneIfThereIsOne) {
  Config config;
  config.artifacts.root = "/big/artifacts";
  EXPECT_EQ(artifacts_root(config), "/big/artifacts");
}

TEST(ResolvedLoss, TakesThePresetOfItsType) {
  Config config;
  config.loss.type = LossType::vanilla;
  const auto vanilla = resolved_loss(config);
  EXPECT_EQ(vanilla.alpha, 1);
  EXPECT_EQ(vanilla.beta, 100);
  EXPECT_EQ(vanilla.gamma, 0);
  EXPECT_EQ(vanilla.T, 2);
  EXPECT_EQ(vanilla.ce_weight, 1);

  config.loss.type = LossType::combined;
  const auto combined = resolved_loss(config);
  EXPECT_EQ(combined.alpha, 1);
  EXPECT_EQ(combined.beta, 100);
  EXPECT_EQ(combined.gamma, 10);
  EXPECT_EQ(combined.T, 4);
  EXPECT_EQ(combined.tau, 0.1);
}

TEST(ResolvedLoss, PrefersTrainingThenLossThenThePreset) {
  Config config;
  config.loss.type = LossType::combined;
  config.loss.alpha = 2;
  config.loss.T = 3;
  config.training.T = 5;
  const auto constants = resolved_loss(config);
  EXPECT_EQ(constants.T, 5);
  EXPECT_EQ(constants.alpha, 2);
  EXPECT_EQ(constants.beta, 100);
}

TEST(ResolvedLoss, OfVanillaHasNoContrastiveTermWhateverIsSet) {
  Config config;
  config.loss.type = LossType::vanilla;
  config.training.gamma = 10;
  EXPECT_EQ(resolved_loss(config).gamma, 0);
}

TEST(ResolvedLoss, OfRelationalTypesHasTheTaskLossAndNoKdTerms) {
  for (const auto type : {LossType::crd, LossType::rkd, LossType::mmd}) {
    Config config;
    config.loss.type = type;
    config.loss.ce_weight = 0.5;
    config.training.alpha = 3;
    const auto constants = resolved_loss(config);
    EXPECT_EQ(constants.ce_weight, 0.5);
    EXPECT_EQ(constants.alpha, 0);
    EXPECT_EQ(constants.beta, 0);
    EXPECT_EQ(constants.tau, 0.1);
    EXPECT_EQ(constants.rkd_distance_weight, 25);
    EXPECT_EQ(constants.rkd_angle_weight, 50);
  }
}

TEST(ResolvedLoss, OfCeOnlyIsTheTaskLoss) {
  Config config;
  config.loss.type = LossType::ce_only;
  config.loss.ce_weight = 0.5;
  const auto constants = resolved_loss(config);
  EXPECT_EQ(constants.ce_weight, 1);
  EXPECT_EQ(constants.alpha + constants.beta + constants.gamma, 0);
}

TEST(WithoutTeacher, IsCeOnlyWithNoEpochsAndNoWeights) {
  Config config;
  EXPECT_FALSE(without_teacher(config));
  config.loss.type = LossType::ce_only;
  EXPECT_FALSE(without_teacher(config));
  config.training.teacher_epochs = 0;
  EXPECT_TRUE(without_teacher(config));
  config.teacher.weights = "teacher.safetensors";
  EXPECT_FALSE(without_teacher(config));
}

}  // namespace
}  // namespace mmkd
