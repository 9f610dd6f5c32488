// Configurations as users of the original system have them: each must be accepted as it stands.
#include <gtest/gtest.h>

#include "mmkd/base/files.h"
#include "tests/config/config_testing.h"
#include "tests/config/loss_term_of.h"

namespace mmkd {
namespace {

using namespace config_testing;

std::string original(const std::string& name) {
  return read_file(std::string(MMKD_SOURCE_DIR) + "/tests/config/original/" + name + ".yaml");
}

TEST(OriginalConfigs, FusionExploration) {
  const auto [config, source, notes] = load(original("fusion_explore"));
  EXPECT_EQ(config.fusion.type, FusionType::energy_aware_adaptive);
  EXPECT_EQ(config.fusion.dropout, 0.1);
  EXPECT_EQ(config.teacher.vision.name, "vit-large");
  EXPECT_EQ(config.training.teacher_lr, 1e-5);
  EXPECT_EQ(config.device, Device::cuda);
  EXPECT_EQ(notes.size(), 1U);
  EXPECT_EQ(term_of(config, LossTermType::kl).T, 2);
  EXPECT_EQ(artifacts_root(config), "logs/artifacts");
}

TEST(OriginalConfigs, LossExplorationWithTunedConstants) {
  const auto [config, source, notes] = load(original("loss_explore"));
  EXPECT_EQ(term_of(config, LossTermType::kl).weight, 0.7);
  EXPECT_EQ(term_of(config, LossTermType::mse).weight, 50);
  EXPECT_EQ(term_of(config, LossTermType::crd).weight, 5);
  EXPECT_EQ(term_of(config, LossTermType::kl).T, 6);
  EXPECT_EQ(term_of(config, LossTermType::crd).tau, 0.1);
  EXPECT_EQ(config.training.seed, 42);
  EXPECT_TRUE(notes.empty());
}

TEST(OriginalConfigs, NoDistillation) {
  const auto [config, source, notes] = load(original("no_kd"));
  EXPECT_TRUE(without_teacher(config));
  EXPECT_FALSE(config.evaluation.save_teacher_metrics);
  EXPECT_TRUE(notes.empty());
}

TEST(OriginalConfigs, CustomStudent) {
  const auto [config, source, notes] = load(original("custom_student"));
  EXPECT_EQ(config.student.arch, StudentArch::custom_tiny);
  EXPECT_EQ(config.student.custom.vision_heads, 3);
  EXPECT_EQ(config.student.tokenizer.name, "bert-mini");
  EXPECT_TRUE(config.evaluation.mcnemar_exact);
  EXPECT_EQ(config.device, Device::cpu);
  EXPECT_EQ(notes,
            (Lines{"student.recommended: accepted and ignored",
                   "student: arch custom_tiny has a fusion gate of its own; fusion.type is for the teacher only"}));
}

TEST(OriginalConfigs, TeacherOnly) {
  const auto [config, source, notes] = load(original("teacher_only"));
  EXPECT_TRUE(config.training.teacher_only);
  EXPECT_EQ(config.fusion.hidden_mult, 4);
  EXPECT_TRUE(notes.empty());
}

TEST(OriginalConfigs, Wound) {
  const auto [config, source, notes] = load(original("wound"));
  EXPECT_EQ(resolved_tasks(config.data),
            (std::vector<TaskConfig>{{"Wound Type", "wound_type"}, {"Severity", "severity"}}));
  EXPECT_EQ(config.data.description_column, "caption");
  EXPECT_EQ(config.data.filepath_column, "path");
  EXPECT_EQ(notes.size(), 1U);
}

}  // namespace
}  // namespace mmkd
