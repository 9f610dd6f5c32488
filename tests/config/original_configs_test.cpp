// Configurations as users of the original system have them: each must be accepted as it stands.
#include <gtest/gtest.h>

#include "tests/config/config_testing.h"
#include "tests/config/loss_term_of.h"

namespace mmkd {
namespace {

using namespace config_testing;

TEST(OriginalConfigs, FusionExploration) {
  const auto [config, source, notes] = load(R"(
data:
  type: "medpix"
  root: "datasets/MedPix-2-0"
  batch_size: 16
  num_workers: 4
  task1_label: "modality"
  task2_label: "location"

teacher:
  vision: "vit-large"
  text: "bio-clinical-bert"
  fusion_layers: 2
  fusion_dim: 512

student:
  vision: "deit-small"
  text: "minilm"
  fusion_layers: 1
  fusion_dim: 512

training:
  teacher_epochs: 3
  student_epochs: 10
  teacher_lr: 1e-5
  student_lr: 3e-4
  alpha: 1.0
  beta: 100.0
  T: 2.0

fusion:
  type: "energy_aware_adaptive"
  hidden_mult: 2
  dropout: 0.1

loss:
  type: "vanilla"
  fusion_dim: 512

logging:
  log_dir: "logs/fusion-explore/energy"

device: "cuda:4"
)");
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
  const auto [config, source, notes] = load(R"(
data: {type: medpix, root: datasets/MedPix-2-0, batch_size: 32, num_workers: 8}
teacher: {vision: vit-large, text: bio-clinical-bert, fusion_layers: 2, fusion_dim: 512, fusion_heads: 8, dropout: 0.1}
student: {vision: mobilevit-small, text: bert-mini, fusion_layers: 1, fusion_dim: 512, fusion_heads: 8, dropout: 0.1}
training:
  teacher_epochs: 5
  student_epochs: 15
  teacher_lr: 0.00001
  student_lr: 0.0003
  alpha: 0.7
  beta: 50
  gamma: 5
  T: 6
  seed: 42
fusion: {type: modality_dropout, p_img: 0.3, p_txt: 0.3}
loss: {type: combined, fusion_dim: 512}
logging: {log_dir: logs/loss-explore/combined-hp}
device: cuda
)");
  EXPECT_EQ(term_of(config, LossTermType::kl).weight, 0.7);
  EXPECT_EQ(term_of(config, LossTermType::mse).weight, 50);
  EXPECT_EQ(term_of(config, LossTermType::crd).weight, 5);
  EXPECT_EQ(term_of(config, LossTermType::kl).T, 6);
  EXPECT_EQ(term_of(config, LossTermType::crd).tau, 0.1);
  EXPECT_EQ(config.training.seed, 42);
  EXPECT_TRUE(notes.empty());
}

TEST(OriginalConfigs, NoDistillation) {
  const auto [config, source, notes] = load(R"(
data:
  type: medpix
  root: datasets/MedPix-2-0
  batch_size: 16
teacher:
  vision: vit-base
  text: distilbert
student:
  vision: deit-tiny
  text: bert-tiny
training:
  teacher_epochs: 0
  student_epochs: 10
  student_lr: 3e-4
loss:
  type: ce_only
logging:
  log_dir: logs/no-kd
evaluation:
  save_teacher_metrics: false
  mcnemar: false
)");
  EXPECT_TRUE(without_teacher(config));
  EXPECT_FALSE(config.evaluation.save_teacher_metrics);
  EXPECT_TRUE(notes.empty());
}

TEST(OriginalConfigs, CustomStudent) {
  const auto [config, source, notes] = load(R"(
data: {type: wound, root: datasets/wound, batch_size: 8, num_workers: 0}
teacher: {vision: vit-base, text: bio-clinical-bert, fusion_layers: 2, fusion_dim: 256}
student:
  arch: "custom_tiny"
  vision: "custom"
  text: "custom"
  tokenizer: "bert-mini"
  fusion_dim: 256
  custom:
    vision_d: 192
    vision_depth: 4
    vision_heads: 3
    vision_mlp_ratio: 4
    text_d: 128
    text_depth: 4
    text_heads: 4
    text_mlp_ratio: 4
    max_len: 256
    fusion_dim: 256
    dropout: 0.1
  recommended:
    batch_size: 32
    note: "fits on an edge device"
training: {teacher_epochs: 3, student_epochs: 20, teacher_lr: 1e-5, student_lr: 1e-3, alpha: 1, beta: 100, T: 2}
fusion: {type: simple}
loss: {type: vanilla, fusion_dim: 256}
logging: {log_dir: logs/ultra-edge/custom}
device: "cpu"
evaluation: {mcnemar: true, mcnemar_exact: true, mcnemar_cc: true}
)");
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
  const auto [config, source, notes] = load(R"(
data: {type: medpix, root: datasets/MedPix-2-0, batch_size: 16}
teacher:
  vision: vit-large
  text: bio-clinical-bert
  fusion_layers: 2
  fusion_dim: 512
student: {vision: vit-base, text: distilbert, fusion_layers: 1, fusion_dim: 512}
training: {teacher_epochs: 10, student_epochs: 0, teacher_lr: 1.0e-5, student_lr: 1.0e-4, teacher_only: true, seed: 1}
fusion: {type: concat_mlp, hidden_mult: 4, dropout: 0.2}
loss: {type: vanilla}
logging: {log_dir: logs/teacher}
)");
  EXPECT_TRUE(config.training.teacher_only);
  EXPECT_EQ(config.fusion.hidden_mult, 4);
  EXPECT_TRUE(notes.empty());
}

TEST(OriginalConfigs, Wound) {
  const auto [config, source, notes] = load(R"(
data:
  type: wound
  root: datasets/wound
  batch_size: 16
  num_workers: 4
  task1_label: "Wound Type"
  task2_label: "Severity"
  type_column: wound_type
  severity_column: severity
  description_column: caption
  filepath_column: path
teacher: {vision: vit-large, text: bio-clinical-bert, fusion_layers: 2, fusion_dim: 512}
student: {vision: vit-base, text: distilbert, fusion_layers: 1, fusion_dim: 512}
training: {teacher_epochs: 3, student_epochs: 5, teacher_lr: 1e-5, student_lr: 3e-5, alpha: 1.0, beta: 100.0, T: 4.0}
fusion: {type: simple}
loss: {type: rkd}
logging: {log_dir: logs/wound}
device: cuda:0
)");
  EXPECT_EQ(resolved_tasks(config.data),
            (std::vector<TaskConfig>{{"Wound Type", "wound_type"}, {"Severity", "severity"}}));
  EXPECT_EQ(config.data.description_column, "caption");
  EXPECT_EQ(config.data.filepath_column, "path");
  EXPECT_EQ(notes.size(), 1U);
}

}  // namespace
}  // namespace mmkd
