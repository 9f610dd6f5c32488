#include <gtest/gtest.h>

#include "tests/config/config_testing.h"

namespace mmkd {
namespace {

using namespace config_testing;

TEST(ConfigErrors, AreReportedAllAtOnceInTheOrderOfTheFile) {
  const std::string yaml =
      "data:\n"
      "  rot: data\n"
      "  type: medpics\n"
      "  batch_size: 0\n"
      "teacher:\n"
      "  vision: vit-large\n"
      "  text: [a]\n"
      "  dropout: 1\n"
      "student:\n"
      "  vision: {hidden_size: 65, patch_sise: 8}\n"
      "  text: distilbert\n"
      "training:\n"
      "  teacher_lr: fast\n"
      "  teacher_epochs: 3.5\n"
      "  teacher_epochs: 4\n"
      "fusion: simple\n"
      "lr: 3\n";
  EXPECT_EQ(
      problems(yaml, {"training.T=-1", "evaluation.mcnemar=maybe"}),
      (Lines{
          "c.yaml:2:3: data.rot: unknown key; did you mean \"root\"?",
          "c.yaml:3:9: data.type: expected one of \"medpix\", \"wound\", \"table\", found \"medpics\"; did you mean "
          "\"medpix\"?",
          "c.yaml:4:15: data.batch_size: expected an integer from 1 to 2147483647, found \"0\"",
          "c.yaml:7:9: teacher.text: expected a name or a map of keys, found a list",
          "c.yaml:8:12: teacher.dropout: expected a number in [0, 1), found \"1\"",
          "c.yaml:10:25: student.vision.hidden_size: expected num_attention_heads to divide hidden_size, found 12 "
          "and 65",
          "c.yaml:10:29: student.vision.patch_sise: unknown key; did you mean \"patch_size\"?",
          "c.yaml:13:15: training.teacher_lr: expected a number above 0, found \"fast\"",
          "c.yaml:14:19: training.teacher_epochs: expected an integer from 0 to 2147483647, found \"3.5\"",
          "c.yaml:15:3: teacher_epochs: duplicate key, found before at line 14",
          "c.yaml:16:9: fusion: expected a map of keys, found \"simple\"",
          "c.yaml:17:1: lr: unknown key; expected one of artifacts, augment, cache, data, device, evaluation, "
          "fusion, "
          "logging, loss, student, teacher, training, watchdog, weights",
          "--set training.T=-1: training.T: expected a number above 0 or null, found \"-1\"",
          "--set evaluation.mcnemar=maybe: evaluation.mcnemar: expected true or false, found \"maybe\"",
      }));
}

TEST(ConfigErrors, MessageIsTheProblemItselfIfThereIsOne) {
  try {
    minimal({"training.seed=x"});
    FAIL() << "expected ConfigError";
  } catch (const ConfigError& error) {
    EXPECT_STREQ(error.what(), "--set training.seed=x: training.seed: expected an integer of at least 0, found \"x\"");
    EXPECT_EQ(error.code(), ExitCode::usage);
  }
}

TEST(ConfigErrors, MessageHasAHeadingAndALinePerProblem) {
  try {
    load("data: {root: d}\nteacher: {vision: a}\nstudent: {vision: a, text: b}\nloss: {typ: mmd}\n");
    FAIL() << "expected ConfigError";
  } catch (const ConfigError& error) {
    EXPECT_STREQ(error.what(),
                 "2 problems in the configuration c.yaml:\n"
                 "  c.yaml:2:1: teacher.text: expected a name or an inline size, found nothing\n"
                 "  c.yaml:4:8: loss.typ: unknown key; did you mean \"type\"?");
  }
}

TEST(ConfigErrors, OfAnEmptyFileNameEverythingThatMustBeGiven) {
  const Lines expected{
      "c.yaml: data.root: expected the folder of the data set, found nothing",
      "c.yaml: teacher.vision: expected a name or an inline size, found nothing",
      "c.yaml: teacher.text: expected a name or an inline size, found nothing",
      "c.yaml: student.vision: expected a name or an inline size, found nothing",
      "c.yaml: student.text: expected a name or an inline size, found nothing",
  };
  EXPECT_EQ(problems(""), expected);
  EXPECT_EQ(problems("data:\nteacher: {vision: , text: {}}\nstudent: {}\n").size(), expected.size());
}

TEST(ConfigErrors, OfTextThatIsNoMapOfSections) {
  EXPECT_EQ(problems("just words"), (Lines{"c.yaml:1:1: expected a map of sections, found \"just words\""}));
  EXPECT_EQ(problems("- a\n- b\n"), (Lines{"c.yaml:1:1: expected a map of sections, found a list"}));
}

TEST(ConfigErrors, OfInvalidYamlStandAlone) {
  EXPECT_EQ(problems("data: {root: d\nteacher: x\n"), (Lines{"c.yaml:2:8: not valid YAML: end of map flow not found"}));
  EXPECT_EQ(problems("data:\n\troot: d\n").size(), 1U);
}

TEST(ConfigErrors, PointAKeyInTheWrongSectionToTheRightOne) {
  EXPECT_EQ(
      problems(kMinimal + "data_root: x\nsaed: 3\nseed: 3\nvision: a\nlog_dir: x\n"),
      (Lines{
          "c.yaml:4:1: data_root: unknown key; expected one of artifacts, augment, cache, data, device, evaluation, "
          "fusion, "
          "logging, loss, student, teacher, training, watchdog, weights",
          "c.yaml:5:1: saed: unknown key; expected one of artifacts, augment, cache, data, device, evaluation, "
          "fusion, "
          "logging, loss, student, teacher, training, watchdog, weights",
          "c.yaml:6:1: seed: unknown key; did you mean \"training.seed\"?",
          "c.yaml:7:1: vision: unknown key; did you mean \"student.vision\" or \"teacher.vision\"?",
          "c.yaml:8:1: log_dir: unknown key; did you mean \"logging.log_dir\"?",
      }));
}

TEST(ConfigErrors, NameTheElementOfAListThatIsWrong) {
  const std::string yaml =
      "data:\n"
      "  root: d\n"
      "  type: table\n"
      "  table: {train: t.csv, dev: d.csv}\n"
      "  tasks:\n"
      "    - a\n"
      "    - {lable: b}\n"
      "    - {label: c, column: [x]}\n"
      "    - [d]\n"
      "teacher: {vision: a, text: b}\n"
      "student: {vision: a, text: b}\n";
  EXPECT_EQ(problems(yaml),
            (Lines{
                "c.yaml:7:7: data.tasks[1].label: expected text, found nothing",
                "c.yaml:7:8: data.tasks[1].lable: unknown key; did you mean \"label\"?",
                "c.yaml:8:26: data.tasks[2].column: expected text, found a list",
                "c.yaml:9:7: data.tasks[3]: expected a name or a map with label and column, found a list",
            }));
}

TEST(ConfigErrors, DoNotFollowFromAnotherError) {
  // Each of these would bring a second error: a task list for medpix, a missing tower, a width that does not divide.
  EXPECT_EQ(problems(kMinimal, {"data.type=tabel", "data.tasks=[a]"}).size(), 1U);
  EXPECT_EQ(problems("data: {root: d}\nteacher: {vison: a, text: b}\nstudent: {vision: a, text: b}\n").size(), 1U);
  EXPECT_EQ(problems(kMinimal, {"student.fusion_dim=-1", "loss.fusion_dim=128"}).size(), 1U);
}

TEST(ConfigErrors, ShowLongTextShortened) {
  const auto lines = problems(kMinimal, {"training={seed: " + std::string(5000, 'x') + "}"});
  ASSERT_EQ(lines.size(), 1U);
  EXPECT_NE(lines[0].find(std::string(60, 'x') + "…\" (5000 bytes)"), std::string::npos);
}

TEST(ConfigErrors, AreCutWhereThereAreVeryMany) {
  std::string yaml = kMinimal;
  for (int i = 0; i < 300; ++i) yaml.append("q").append(std::to_string(i)).append(": 1\n");
  const auto lines = problems(yaml);
  ASSERT_EQ(lines.size(), 101U);
  EXPECT_EQ(lines.back(), "… and 200 more");
}

TEST(ConfigErrors, RefuseNumbersThatAreNone) {
  for (const auto* value :
       {"nan", "inf", "-inf", ".nan", ".inf", "1e999", "0x10", "1_000", "3e", "1.0 2.0", "+-3", "--3"})
    EXPECT_EQ(problems(kMinimal, {std::string("training.weight_decay=") + value}).size(), 1U) << value;
  for (const auto* value : {"99999999999999999999", "1.0", "1e3", "two", "-1", "[1]", "{a: 1}", ""})
    EXPECT_EQ(problems(kMinimal, {std::string("data.batch_size=") + value}).size(), 1U) << value;
}

TEST(ConfigErrors, RefuseWhatIsOutOfRange) {
  for (const auto* assignment : {"training.teacher_lr=0",
                                 "training.betas=[0.9, 1]",
                                 "training.betas=[0.9]",
                                 "training.betas=0.9",
                                 "training.warmup_fraction=1.1",
                                 "training.clip_norm=-1",
                                 "training.eps=0",
                                 "data.max_length=2",
                                 "data.num_workers=-1",
                                 "fusion.p_img=1.5",
                                 "fusion.dropout=1",
                                 "fusion.temperature=0",
                                 "loss.tau=0",
                                 "student.fusion_heads=0",
                                 "student.fusion_layers=0",
                                 "evaluation.batch_size=0",
                                 "device=gpu",
                                 "device=cuda:",
                                 "device=cuda:x",
                                 "device=cuda:-1",
                                 "teacher.arch=zoo",
                                 "logging.log_dir=",
                                 "logging={log_dir: \"\"}"})
    EXPECT_EQ(problems(kMinimal, {assignment}).size(), 1U) << assignment;
}

}  // namespace
}  // namespace mmkd
