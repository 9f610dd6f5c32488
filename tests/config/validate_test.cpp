#include <gtest/gtest.h>

#include "tests/config/config_testing.h"

namespace mmkd {
namespace {

using namespace config_testing;

const std::string kSized =
    "data: {root: d}\n"
    "teacher: {vision: a, text: b}\n"
    "student:\n"
    "  vision: {hidden_size: 64, num_attention_heads: 4, image_size: 64, patch_size: 8}\n"
    "  text: {hidden_size: 64, num_attention_heads: 4}\n"
    "  tokenizer: vocab.txt\n";

TEST(Validate, AcceptsInlineSizesThatFit) { EXPECT_EQ(problems(kSized), Lines{}); }

TEST(Validate, HeadsDivideTheWidthAndPatchesTheImage) {
  EXPECT_EQ(problems(kSized, {"student.vision.num_attention_heads=3", "student.vision.patch_size=7",
                              "student.text.num_attention_heads=5"}),
            (Lines{"--set student.vision.num_attention_heads=3: student.vision.num_attention_heads: expected "
                   "num_attention_heads to divide hidden_size, found 3 and 64",
                   "--set student.vision.patch_size=7: student.vision.patch_size: expected patch_size to divide "
                   "image_size, found 7 and 64",
                   "--set student.text.num_attention_heads=5: student.text.num_attention_heads: expected "
                   "num_attention_heads to divide hidden_size, found 5 and 64"}));
}

TEST(Validate, FusionHeadsDivideTheFusionWidthWhereTheFusionHasAttention) {
  for (const auto* type : {"simple", "cross_attention", "transformer_concat", "energy_aware_adaptive", "shomr"})
    EXPECT_EQ(
        problems(kMinimal, {"student.fusion_dim=100", std::string("fusion.type=") + type}),
        (Lines{"--set student.fusion_dim=100: student.fusion_dim: expected fusion_heads to divide fusion_dim, found "
               "8 and 100"}))
        << type;
  for (const auto* type : {"concat_mlp", "gated", "film", "modality_dropout"})
    EXPECT_EQ(problems(kMinimal, {"student.fusion_dim=100", std::string("fusion.type=") + type}), Lines{}) << type;
}

TEST(Validate, TheWidthOfTheLossIsTheStudents) {
  EXPECT_EQ(problems(kMinimal, {"loss.fusion_dim=512"}), Lines{});
  EXPECT_EQ(
      problems(kMinimal, {"loss.fusion_dim=256"}),
      (Lines{"--set loss.fusion_dim=256: loss.fusion_dim: expected the same as student.fusion_dim 512, found 256"}));
  EXPECT_EQ(problems(kMinimal, {"loss.fusion_dim=256", "student.fusion_dim=256"}), Lines{});
}

TEST(Validate, AnInlineTextTowerNeedsATokenizer) {
  EXPECT_EQ(
      problems(kSized, {"student.tokenizer="}),
      (Lines{"c.yaml:3:1: student.tokenizer: expected a tokenizer, since a text tower with an inline size has none "
             "of its own, found none"}));
}

TEST(Validate, AnInlineTextTowerHasAPositionForEveryToken) {
  EXPECT_EQ(problems(kSized, {"data.max_length=600"}),
            (Lines{"--set data.max_length=600: data.max_length: expected max_position_embeddings to be at least "
                   "data.max_length, found 512 and 600"}));
  EXPECT_EQ(problems(kSized, {"data.max_length=512"}), Lines{});
  EXPECT_EQ(problems(kSized, {"data.max_length=512", "student.text.family=roberta"}),
            (Lines{"--set data.max_length=512: data.max_length: expected max_position_embeddings to be at least "
                   "data.max_length + 1, found 512 and 512"}));
}

TEST(Validate, InlineSizesAreOfFamiliesThatTheyDescribe) {
  const auto found = problems(kSized, {"student.vision.family=mobilevit"});
  ASSERT_EQ(found.size(), 3U);
  EXPECT_NE(found[0].find("student.vision.hidden_size: has no meaning with family mobilevit, whose sizes are in "
                          "student.vision.mobilevit"),
            std::string::npos);
  EXPECT_EQ(problems(kMinimal, {"student.vision={family: mobilevit, image_size: 64, mobilevit: {mlp_ratio: 3}}"}),
            Lines{});
  EXPECT_EQ(problems(kMinimal, {"student.vision={family: vit, mobilevit: {mlp_ratio: 3}}"}),
            (Lines{"--set student.vision={family: vit, mobilevit: {mlp_ratio: 3}}: student.vision.mobilevit: has no "
                   "meaning with family vit"}));
  EXPECT_EQ(
      problems(kMinimal, {"student.vision={family: mobilevit, mobilevit: {hidden_sizes: [1, 2], output_stride: 7}}"})
          .size(),
      4U);  // the number of widths, two that the heads do not divide, and the stride
  EXPECT_EQ(problems(kSized, {"student.text.family=mobilebert", "student.text.num_attention_heads=4"}), Lines{});
}

TEST(Validate, ATowerHasANameOrASize) {
  EXPECT_EQ(problems(kMinimal, {"teacher.vision.hidden_size=64", "teacher.vision.patch_size=8"}),
            (Lines{"--set teacher.vision.hidden_size=64: teacher.vision.hidden_size: has no meaning beside the name "
                   "\"vit-base\", whose folder says the size; remove one of the two",
                   "--set teacher.vision.patch_size=8: teacher.vision.patch_size: has no meaning beside the name "
                   "\"vit-base\", whose folder says the size; remove one of the two"}));
}

TEST(Validate, ATeacherWithoutEpochsComesFromWeightsOrIsNotWanted) {
  EXPECT_EQ(
      problems(kMinimal, {"training.teacher_epochs=0"}),
      (Lines{"--set training.teacher_epochs=0: training.teacher_epochs: expected at least 1 with a loss that compares "
             "with a teacher, found 0; for a ready teacher set teacher.weights or teacher.runs, for no distillation "
             "loss.type: ce_only"}));
  EXPECT_EQ(problems(kMinimal, {"training.teacher_epochs=0", "loss.type=ce_only"}), Lines{});
  EXPECT_EQ(problems(kMinimal, {"training.teacher_epochs=0", "teacher.weights=t.safetensors"}), Lines{});
  EXPECT_EQ(problems(kMinimal, {"training.teacher_epochs=0", "loss.type=ce_only", "training.teacher_only=true"}),
            (Lines{"--set training.teacher_epochs=0: training.teacher_epochs: expected at least 1 with teacher_only, "
                   "found 0"}));
}

TEST(Validate, NoTeacherNeedsToBeDescribedWithoutDistillation) {
  EXPECT_EQ(
      problems("data: {root: d}\nstudent: {vision: a, text: b}\n", {"training.teacher_epochs=0", "loss.type=ce_only"}),
      Lines{});
}

TEST(Validate, NoStudentNeedsToBeDescribedForATeacherOnly) {
  const std::string yaml = "data: {root: d}\nteacher: {vision: a, text: b}\ntraining: {teacher_only: true}\n";
  EXPECT_EQ(problems(yaml), Lines{});
  EXPECT_EQ(problems(yaml, {"training.student_epochs=0"}), Lines{});
}

TEST(Validate, AStudentHasEpochs) {
  EXPECT_EQ(
      problems(kMinimal, {"training.student_epochs=0"}),
      (Lines{"--set training.student_epochs=0: training.student_epochs: expected at least 1, found 0; for no student "
             "set training.teacher_only: true"}));
}

TEST(Validate, LossTermsStandInsteadOfAType) {
  EXPECT_EQ(problems(kMinimal, {"loss.terms=[{ce: 1}, {dkd: {T: 4, alpha: 1, beta: 8}}]"}), Lines{});
  EXPECT_EQ(problems(kMinimal, {"loss={type: rkd, terms: [{ce: 1}]}"}).size(), 1U);
  EXPECT_EQ(problems(kMinimal, {"loss={terms: [{ce: 1}], tau: 0.2}"}).size(), 1U);
  EXPECT_EQ(problems(kMinimal, {"loss.terms=[{cee: 1}]"}),
            (Lines{"--set loss.terms=[{cee: 1}]: loss.terms[0].cee: unknown term; did you mean \"ce\"?"}));
  EXPECT_EQ(
      problems(kMinimal, {"loss.terms=[{kl: {tau: 1}}]"}),
      (Lines{"--set loss.terms=[{kl: {tau: 1}}]: loss.terms[0].kl.tau: unknown constant; expected one of weight, T"}));
  EXPECT_EQ(problems(kMinimal, {"loss.terms=[{kl: {T: 0}}]"}).size(), 1U);
  EXPECT_EQ(problems(kMinimal, {"loss.terms=[{mmd: {bandwidth: wide}}]"}).size(), 1U);
  EXPECT_EQ(problems(kMinimal, {"loss.terms=[kl]"}).size(), 1U);
}

TEST(Validate, JointTrainingHasOneTeacherThatIsTrained) {
  EXPECT_EQ(problems(kMinimal, {"training.mode=joint"}), Lines{});
  for (const char* other : {"loss.type=ce_only", "training.teacher_only=true", "teacher.seeds=[1, 2]"})
    EXPECT_EQ(problems(kMinimal, {"training.mode=joint", other}).size(), 1U) << other;
}

TEST(Validate, TeachersOfRunsBringTheirTowers) {
  const std::string yaml = "data: {root: d}\nstudent: {vision: a, text: b}\n";
  EXPECT_EQ(problems(yaml, {"teacher.runs=[logs/a, logs/b]"}), Lines{});
  EXPECT_EQ(problems(kMinimal, {"teacher.runs=[logs/a]"}).size(), 2U);  // vision and text
}

TEST(Validate, AugmentationsNeedViews) {
  EXPECT_EQ(problems(kMinimal, {"augment.views=3", "augment.horizontal_flip=0.5"}), Lines{});
  EXPECT_EQ(problems(kMinimal, {"augment.horizontal_flip=0.5"}).size(), 1U);
}

TEST(Validate, AMicroBatchIsNotLargerThanTheBatch) {
  EXPECT_EQ(
      problems(kMinimal, {"training.micro_batch_size=17"}),
      (Lines{"--set training.micro_batch_size=17: training.micro_batch_size: expected at most data.batch_size 16, "
             "found 17"}));
}

TEST(Validate, GraphsHoldWholeSteps) {
  const std::string on = "training.cuda_graphs=true";
  EXPECT_EQ(problems(kMinimal, {on}), Lines{});
  for (const char* other : {"training.micro_batch_size=4", "training.spike_factor=3"}) {
    const auto found = problems(kMinimal, {on, other});
    ASSERT_EQ(found.size(), 1U) << other;
    EXPECT_NE(found[0].find("expected 0 with training.cuda_graphs"), std::string::npos) << found[0];
  }
}

TEST(Validate, ATableHasFilesAndTasks) {
  EXPECT_EQ(problems(kMinimal, {"data.type=table"}),
            (Lines{"c.yaml:1:1: data.table.train: expected a file, found nothing",
                   "c.yaml:1:1: data.table.dev: expected a file, found nothing",
                   "c.yaml:1:1: data.tasks: expected at least one task of the table, found none"}));
}

TEST(Validate, OnlyATableHasTasksOfItsOwn) {
  EXPECT_EQ(problems(kMinimal, {"data.tasks=[a]"}),
            (Lines{"--set data.tasks=[a]: data.tasks: expected none with data.type medpix, whose two tasks are fixed "
                   "(data.task1_label and data.task2_label name them), found 1"}));
}

TEST(Validate, TaskLabelsDifferInTheNamesOfMetrics) {
  EXPECT_EQ(
      problems(kMinimal, {"data.task2_label=Modality!"}),
      (Lines{"--set data.task2_label=Modality!: data.task2_label: expected labels that differ, found \"modality\" and "
             "\"Modality!\", both \"modality\" in metrics"}));
  EXPECT_EQ(
      problems(kMinimal, {"data.task1_label=…"}),
      (Lines{"--set data.task1_label=…: data.task1_label: expected a label with a letter or digit a-z, 0-9, found "
             "\"…\""}));
}

TEST(Validate, PackedShardsStandInForTheDataSet) {
  EXPECT_EQ(problems("data: {packed: p}\nteacher: {vision: a, text: b}\nstudent: {vision: a, text: b}\n"), Lines{});
}

TEST(Validate, NeverBothModalitiesAreDropped) {
  const Lines drops{"fusion.p_img=0.7", "fusion.p_txt=0.6"};
  EXPECT_EQ(problems(kMinimal, drops), Lines{});
  EXPECT_EQ(problems(kMinimal, {drops[0], drops[1], "fusion.type=modality_dropout"}),
            (Lines{"--set fusion.p_txt=0.6: fusion.p_txt: expected p_img + p_txt of at most 1, since never both are "
                   "dropped, found 0.7 + 0.6"}));
}

const std::string kCustom = "data: {root: d}\nteacher: {vision: a, text: b}\n";

TEST(CustomStudent, IsChosenByItsTowersOrByItsArchitecture) {
  for (const auto* student :
       {"{vision: custom, text: custom}", "{arch: custom_tiny}", "{arch: custom_tiny, vision: custom, text: custom}"}) {
    const auto loaded = load(kCustom + "student: " + student + "\n");
    EXPECT_EQ(loaded.config.student.arch, StudentArch::custom_tiny) << student;
    EXPECT_EQ(loaded.config.student.vision.name, "custom") << student;
    EXPECT_EQ(loaded.config.student.text.name, "custom") << student;
    EXPECT_EQ(loaded.config.student.tokenizer.name, "bert-mini") << student;
    EXPECT_EQ(loaded.config.student.fusion_dim, 256) << student;
    EXPECT_EQ(loaded.notes,
              (Lines{"student: arch custom_tiny has a fusion gate of its own; fusion.type is for the teacher only"}));
  }
}

TEST(CustomStudent, IsNotMixedWithOtherTowers) {
  EXPECT_EQ(problems(kCustom + "student: {vision: custom, text: distilbert}\n"),
            (Lines{"c.yaml:3:19: student.vision.name: expected a tower, found \"custom\"; the custom student is "
                   "student.vision: custom and student.text: custom together"}));
  EXPECT_EQ(problems(kCustom + "student: {vision: vit-base, text: custom}\n").size(), 1U);
  EXPECT_EQ(
      problems(kCustom + "student: {arch: custom_tiny, vision: vit-base}\n"),
      (Lines{"c.yaml:3:17: student.arch: expected vision and text to be left out or custom with arch custom_tiny, "
             "found another vision tower"}));
  EXPECT_EQ(problems(kCustom + "student: {arch: zoo, vision: custom, text: custom}\n").size(), 1U);
}

TEST(CustomStudent, IsNoTeacher) {
  EXPECT_EQ(
      problems(kMinimal, {"teacher.vision=custom"}),
      (Lines{"--set teacher.vision=custom: teacher.vision.name: expected a tower, found \"custom\"; only a student "
             "can be custom"}));
}

TEST(CustomStudent, HasOneFusionWidth) {
  const std::string yaml = kCustom + "student: {arch: custom_tiny}\n";
  EXPECT_EQ(load(yaml, {"student.custom.fusion_dim=128"}).config.student.fusion_dim, 128);
  EXPECT_EQ(load(yaml, {"student.fusion_dim=128"}).config.student.custom.fusion_dim, 128);
  EXPECT_EQ(problems(yaml, {"student.fusion_dim=128", "student.custom.fusion_dim=128", "loss.fusion_dim=128"}),
            Lines{});
  EXPECT_EQ(
      problems(yaml, {"student.fusion_dim=128", "student.custom.fusion_dim=64"}),
      (Lines{"--set student.custom.fusion_dim=64: student.custom.fusion_dim: expected the same as student.fusion_dim "
             "128, found 64"}));
}

TEST(CustomStudent, HasSizesThatFit) {
  const std::string yaml = kCustom + "student: {arch: custom_tiny}\n";
  EXPECT_EQ(problems(yaml, {"student.custom.vision_heads=5"}).size(), 1U);
  EXPECT_EQ(problems(yaml, {"student.custom.text_heads=5"}).size(), 1U);
  EXPECT_EQ(problems(yaml, {"student.custom.max_len=128"}).size(), 1U);
  EXPECT_EQ(problems(yaml, {"student.custom.max_len=128", "data.max_length=128"}), Lines{});
}

TEST(CustomStudent, KeepsATokenizerThatIsGiven) {
  EXPECT_EQ(load(kCustom + "student: {arch: custom_tiny, tokenizer: distilbert}\n").config.student.tokenizer.name,
            "distilbert");
}

TEST(Notes, SayThatMcNemarNeedsTwoModels) {
  const Lines expected{"evaluation.mcnemar: not done, since it compares a teacher with a student"};
  EXPECT_EQ(minimal({"evaluation.mcnemar=true", "training.teacher_epochs=0", "loss.type=ce_only"}).notes, expected);
  EXPECT_EQ(minimal({"evaluation.mcnemar_cc=true", "training.teacher_only=true"}).notes, expected);
  EXPECT_TRUE(minimal({"evaluation.mcnemar=true"}).notes.empty());
}

}  // namespace
}  // namespace mmkd
