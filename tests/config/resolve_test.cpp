#include <gtest/gtest.h>

#include <map>
#include <vector>

#include "mmkd/config/config.h"
#include "tests/config/loss_term_of.h"

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

std::vector<LossTermType> types_of(const std::vector<LossTerm>& terms) {
  std::vector<LossTermType> types;
  for (const auto& term : terms) types.push_back(term.type);
  return types;
}

TEST(ResolvedLoss, TakesThePresetOfItsType) {
  using enum LossTermType;
  Config config;
  config.loss.type = LossType::vanilla;
  EXPECT_EQ(types_of(resolved_loss(config)), (std::vector{ce, kl, mse}));
  EXPECT_EQ(term_of(config, ce).weight, 1);
  EXPECT_EQ(term_of(config, kl).weight, 1);
  EXPECT_EQ(term_of(config, kl).T, 2);
  EXPECT_EQ(term_of(config, mse).weight, 100);

  config.loss.type = LossType::combined;
  EXPECT_EQ(types_of(resolved_loss(config)), (std::vector{ce, kl, mse, crd}));
  EXPECT_EQ(term_of(config, kl).T, 4);
  EXPECT_EQ(term_of(config, mse).weight, 100);
  EXPECT_EQ(term_of(config, crd).weight, 10);
  EXPECT_EQ(term_of(config, crd).tau, 0.1);
}

TEST(ResolvedLoss, PrefersTrainingThenLossThenThePreset) {
  Config config;
  config.loss.type = LossType::combined;
  config.loss.alpha = 2;
  config.loss.T = 3;
  config.training.T = 5;
  EXPECT_EQ(term_of(config, LossTermType::kl).T, 5);
  EXPECT_EQ(term_of(config, LossTermType::kl).weight, 2);
  EXPECT_EQ(term_of(config, LossTermType::mse).weight, 100);
}

TEST(ResolvedLoss, OfVanillaHasNoContrastiveTermWhateverIsSet) {
  Config config;
  config.loss.type = LossType::vanilla;
  config.training.gamma = 10;
  EXPECT_EQ(resolved_loss(config).size(), 3U);
}

TEST(ResolvedLoss, OfRelationalTypesHasTheTaskLossBesideIt) {
  using enum LossTermType;
  const std::map<LossType, std::vector<LossTermType>> wanted{
      {LossType::crd, {ce, crd}}, {LossType::rkd, {ce, rkd_distance, rkd_angle}}, {LossType::mmd, {ce, mmd}}};
  for (const auto& [type, terms] : wanted) {
    Config config;
    config.loss.type = type;
    config.loss.ce_weight = 0.5;
    config.training.alpha = 3;
    EXPECT_EQ(types_of(resolved_loss(config)), terms);
    EXPECT_EQ(term_of(config, ce).weight, 0.5);
    EXPECT_TRUE(distils(config));
  }
  Config config;
  config.loss.type = LossType::rkd;
  EXPECT_EQ(term_of(config, rkd_distance).weight, 25);
  EXPECT_EQ(term_of(config, rkd_angle).weight, 50);
}

TEST(ResolvedLoss, OfCeOnlyIsTheTaskLoss) {
  Config config;
  config.loss.type = LossType::ce_only;
  config.loss.ce_weight = 0.5;
  EXPECT_EQ(resolved_loss(config), std::vector{default_term(LossTermType::ce)});
  EXPECT_FALSE(distils(config));
}

TEST(ResolvedLoss, LeavesOutTermsWithoutWeightButTheTaskLoss) {
  Config config;
  config.loss.type = LossType::vanilla;
  config.training.beta = 0;
  EXPECT_EQ(types_of(resolved_loss(config)), (std::vector{LossTermType::ce, LossTermType::kl}));
  config.loss.type = LossType::crd;
  config.loss.ce_weight = 0;
  EXPECT_EQ(types_of(resolved_loss(config)), (std::vector{LossTermType::ce, LossTermType::crd}));
}

TEST(ResolvedLoss, IsTheListOfTermsWhereThereIsOne) {
  Config config;
  auto dkd = default_term(LossTermType::dkd);
  dkd.weight = 2;
  config.loss.terms = {default_term(LossTermType::ce), dkd};
  EXPECT_EQ(resolved_loss(config), config.loss.terms);
  EXPECT_EQ(dkd.beta, 8);
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
