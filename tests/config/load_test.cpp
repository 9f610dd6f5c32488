#include "mmkd/config/load.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "tests/config/config_testing.h"

namespace mmkd {
namespace {

using namespace config_testing;

TEST(LoadConfig, GivesDefaultsWhereTheFileSaysNothing) {
  const auto [config, source, notes] = minimal();
  EXPECT_EQ(config.data.type, DatasetType::medpix);
  EXPECT_EQ(config.data.batch_size, 16);
  EXPECT_EQ(config.data.num_workers, 4);
  EXPECT_EQ(config.data.max_length, 256);
  EXPECT_EQ(config.teacher.fusion_layers, 2);
  EXPECT_EQ(config.student.fusion_layers, 1);
  EXPECT_EQ(config.student.fusion_dim, 512);
  EXPECT_EQ(config.student.fusion_heads, 8);
  EXPECT_EQ(config.student.dropout, 0.1);
  EXPECT_EQ(config.training.weight_decay, 0.01);
  EXPECT_EQ(config.fusion.p_img, 0.3);
  EXPECT_EQ(config.loss.type, LossType::vanilla);
  EXPECT_EQ(config.device, Device::automatic);
  EXPECT_EQ(config.source, "c.yaml");
  EXPECT_TRUE(notes.empty());
}

TEST(LoadConfig, ReadsEveryKindOfValue) {
  const auto config = load(kMinimal +
                           "training:\n"
                           "  teacher_epochs: 7\n"
                           "  student_lr: 3e-5\n"
                           "  T: +2.5\n"
                           "  alpha: .5\n"
                           "  betas: [0.8, 0.95]\n"
                           "  precision: bf16\n"
                           "  seed: 9000000000\n"
                           "evaluation: {mcnemar: yes, save_teacher_metrics: Off}\n"
                           "logging: {log_dir: \"logs/a b\"}\n"
                           "weights: {root: /models}\n")
                          .config;
  EXPECT_EQ(config.training.teacher_epochs, 7);
  EXPECT_EQ(config.training.student_lr, 3e-5);
  EXPECT_EQ(config.training.T, 2.5);
  EXPECT_EQ(config.training.alpha, 0.5);
  EXPECT_EQ(config.training.betas, (std::array<double, 2>{0.8, 0.95}));
  EXPECT_EQ(config.training.precision, Precision::bf16);
  EXPECT_EQ(config.training.seed, 9'000'000'000);
  EXPECT_TRUE(config.evaluation.mcnemar);
  EXPECT_FALSE(config.evaluation.save_teacher_metrics);
  EXPECT_EQ(config.logging.log_dir, "logs/a b");
  EXPECT_EQ(config.weights.root, "/models");
}

TEST(LoadConfig, ReadsNumbersThatAreQuoted) { EXPECT_EQ(minimal({"data.batch_size=\"8\""}).config.data.batch_size, 8); }

TEST(LoadConfig, TakesATowerAsANameOrAsASize) {
  const auto config =
      load(
          "data: {root: d, max_length: 128}\n"
          "teacher: {vision: vit-large, text: {name: bio-clinical-bert}}\n"
          "student:\n"
          "  vision: {family: deit, hidden_size: 64, num_attention_heads: 2, image_size: 32, patch_size: 8}\n"
          "  text: {family: distilbert, hidden_size: 64, num_attention_heads: 2}\n"
          "  tokenizer: vocab.txt\n")
          .config;
  EXPECT_FALSE(config.teacher.vision.inline_size());
  EXPECT_EQ(config.teacher.vision.name, "vit-large");
  EXPECT_EQ(config.teacher.text.name, "bio-clinical-bert");
  EXPECT_TRUE(config.student.vision.inline_size());
  EXPECT_EQ(config.student.vision.family, VisionFamily::deit);
  EXPECT_EQ(config.student.vision.patch_size, 8);
  EXPECT_EQ(config.student.vision.num_hidden_layers, 12);
  EXPECT_EQ(config.student.text.family, TextFamily::distilbert);
  EXPECT_EQ(config.student.tokenizer.name, "vocab.txt");
}

TEST(LoadConfig, TakesATokenizerAsANameOrAsSettings) {
  const auto config = load(
                          "data: {root: d}\n"
                          "teacher: {vision: a, text: b, tokenizer: {do_lower_case: true}}\n"
                          "student: {vision: a, text: b, tokenizer: {name: x, strip_accents: false}}\n")
                          .config;
  EXPECT_EQ(config.teacher.tokenizer.name, "");
  EXPECT_EQ(config.teacher.tokenizer.do_lower_case, true);
  EXPECT_EQ(config.student.tokenizer.name, "x");
  EXPECT_EQ(config.student.tokenizer.strip_accents, false);
  EXPECT_FALSE(config.student.tokenizer.do_lower_case.has_value());
}

TEST(LoadConfig, TakesTasksAsNamesOrAsMaps) {
  const auto data = load(kMinimal, {"data={root: d, type: table, table: {train: t.csv, dev: d.csv}, "
                                    "tasks: [shape, {label: Site, column: a.b}, {label: c}]}"})
                        .config.data;
  EXPECT_EQ(data.tasks, (std::vector<TaskConfig>{{"shape", "shape"}, {"Site", "a.b"}, {"c", "c"}}));
  EXPECT_EQ(data.table.test, "");
}

TEST(LoadConfig, TakesNullAsTheDefaultWhereThereIsOneInWords) {
  const auto config = minimal({"training.T=null", "teacher.weights=", "student.tokenizer=~", "fusion="}).config;
  EXPECT_FALSE(config.training.T.has_value());
  EXPECT_TRUE(config.teacher.weights.empty());
  EXPECT_EQ(config.student.tokenizer, TokenizerConfig{});
  EXPECT_EQ(config.fusion, FusionConfig{});
}

TEST(LoadConfig, SaysWhereEveryValueCameFrom) {
  const auto source = minimal({"training.seed=3", "student.vision=vit-base"}).source;
  EXPECT_EQ(source.at("data.root"), "c.yaml:1");
  EXPECT_EQ(source.at("teacher.text.name"), "c.yaml:2");
  EXPECT_EQ(source.at("training.seed"), "--set");
  EXPECT_EQ(source.at("student.vision.name"), "--set");
  EXPECT_EQ(source.at("training.T"), "default");
  EXPECT_EQ(source.count("student.recommended"), 0U);
}

TEST(LoadConfig, ReadsAFile) {
  const auto file = std::filesystem::temp_directory_path() / "mmkd_load_config_test.yaml";
  std::ofstream(file) << kMinimal;
  const auto loaded = load_config(file, std::vector<std::string>{"data.batch_size=4"});
  std::filesystem::remove(file);
  EXPECT_EQ(loaded.config.data.batch_size, 4);
  EXPECT_EQ(loaded.config.source, file);
  EXPECT_EQ(loaded.source.at("data.root"), file.string() + ":1");
}

std::string load_error(const std::filesystem::path& file) {
  try {
    load_config(file);
  } catch (const ConfigError& error) {
    EXPECT_EQ(error.code(), ExitCode::usage);
    return error.what();
  }
  return "";
}

TEST(LoadConfig, SaysWhenThereIsNoFile) {
  EXPECT_EQ(load_error("/nowhere/x.yaml"), "/nowhere/x.yaml: expected a YAML file, found nothing there");
  EXPECT_EQ(load_error("/tmp"), "/tmp: expected a YAML file, found no regular file");
}

TEST(LoadConfig, RefusesAFileOfAbsurdSizeUnread) {
  const auto file = std::filesystem::temp_directory_path() / "mmkd_load_config_huge_test.yaml";
  std::ofstream(file).put('a');
  std::filesystem::resize_file(file, std::uintmax_t{1} << 40);
  const auto message = load_error(file);
  std::filesystem::remove(file);
  EXPECT_EQ(message, file.string() + ": expected at most 1048576 bytes, found 1099511627776");
}

TEST(Overrides, WinOverTheFileAndTheLastOverTheFirst) {
  const auto config = load(kMinimal + "training: {seed: 1, T: 3}\n", {"training.seed=2", "training.seed=3"}).config;
  EXPECT_EQ(config.training.seed, 3);
  EXPECT_EQ(config.training.T, 3);
}

TEST(Overrides, TakeEverythingBehindTheFirstEqualsSign) {
  EXPECT_EQ(minimal({"data.root=/a=b/c"}).config.data.root, "/a=b/c");
}

TEST(Overrides, ReplaceASectionWhole) {
  const std::string sized =
      "data: {root: d}\nteacher: {vision: {hidden_size: 64, num_attention_heads: 2}, text: b}\n"
      "student: {vision: a, text: b}\n";
  EXPECT_EQ(load(sized, {"teacher.vision=vit-base"}).config.teacher.vision.name, "vit-base");
  const auto vision = load(sized, {"teacher.vision={hidden_size: 96}"}).config.teacher.vision;
  EXPECT_EQ(vision.hidden_size, 96);
  EXPECT_EQ(vision.num_attention_heads, 12);
}

TEST(Overrides, AddSettingsToATokenizerThatTheFileNames) {
  const auto config =
      load("data: {root: d}\nteacher: {vision: a, text: b}\nstudent: {vision: a, text: b, tokenizer: x}\n",
           {"student.tokenizer.do_lower_case=false"})
          .config;
  EXPECT_EQ(config.student.tokenizer.name, "x");
  EXPECT_EQ(config.student.tokenizer.do_lower_case, false);
}

TEST(Overrides, MakeAWholeConfiguration) {
  const auto config =
      load("", {"data.root=d", "teacher={vision: a, text: b}", "student.vision=a", "student.text=b"}).config;
  EXPECT_EQ(config.student.text.name, "b");
}

TEST(Overrides, ThatAreMalformedAreReportedAll) {
  EXPECT_EQ(problems(kMinimal, {"seed", "=3", "a..b=1", "training.T=[", "training..=", "data.root.x=1"}),
            (Lines{"--set seed: expected section.key=value", "--set =3: expected section.key=value",
                   "--set a..b=1: expected section.key=value",
                   "--set training.T=[: not valid YAML: end of sequence flow not found",
                   "--set training..=: expected section.key=value",
                   "--set data.root.x=1: data.root: is \"data\"; give a new value for all of it"}));
}

TEST(Overrides, CannotReachIntoAList) {
  EXPECT_EQ(problems(kMinimal + "training: {betas: [0.9, 0.99]}\n", {"training.betas.0=0.8"}),
            (Lines{"--set training.betas.0=0.8: training.betas: is a list; give a new value for all of it"}));
}

TEST(Notes, SayThatADeviceIndexIsIgnored) {
  for (const auto* device : {"cuda:4", "cuda:0", "\"cuda:17\""}) {
    const auto [config, source, notes] = minimal({std::string("device=") + device});
    EXPECT_EQ(config.device, Device::cuda);
    ASSERT_EQ(notes.size(), 1U);
    EXPECT_NE(notes[0].find("is ignored; a rank takes the GPU of its local rank"), std::string::npos);
  }
  EXPECT_TRUE(minimal({"device=cuda"}).notes.empty());
  EXPECT_EQ(minimal({"device=cpu"}).config.device, Device::cpu);
}

TEST(Notes, SayThatRecommendationsAreIgnored) {
  for (const auto* content : {"3", "null", "{batch_size: 8, lr: [1, 2]}", "[a, {b: c}]"})
    EXPECT_EQ(minimal({std::string("student.recommended=") + content}).notes,
              (Lines{"student.recommended: accepted and ignored"}))
        << content;
}

TEST(Notes, SayWhichValueWinsWhereTwoAreGiven) {
  EXPECT_EQ(minimal({"training.T=4", "loss.T=2"}).notes, (Lines{"loss.T 2 is not used: training.T 4 wins"}));
  EXPECT_TRUE(minimal({"training.T=4", "loss.T=4"}).notes.empty());
}

TEST(Notes, SayWhatTheDataSetHasNoUseFor) {
  EXPECT_EQ(minimal({"data.type_column=kind"}).notes, (Lines{"data.*_column: not used with data.type medpix"}));
  EXPECT_EQ(minimal({"data.table.train=t.csv"}).notes, (Lines{"data.table: not used with data.type medpix"}));
}

}  // namespace
}  // namespace mmkd
