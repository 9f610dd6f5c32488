#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "mmkd/base/files.h"
#include "mmkd/config/load.h"
#include "tests/config/loss_term_of.h"

namespace mmkd {
namespace {

const fs::path kSource = MMKD_SOURCE_DIR;

Config ready(const std::string& name) { return load_config(kSource / "config" / name).config; }

TEST(ReadyConfigs, LoadWithNothingToNote) {
  int count = 0;
  for (const auto& entry : fs::directory_iterator(kSource / "config")) {
    if (entry.path().extension() != ".yaml") continue;
    ++count;
    EXPECT_TRUE(load_config(entry.path()).notes.empty()) << entry.path();
  }
  EXPECT_GE(count, 4);
}

TEST(ReadyConfigs, NameTokenizersThatAreThere) {
  for (const auto* name : {"demo.yaml", "medpix_small.yaml"}) {
    const Config config = ready(name);
    for (const auto* model : {&config.teacher, &config.student}) {
      const auto vocabulary = read_file(kSource / model->tokenizer.name);
      EXPECT_EQ(std::count(vocabulary.begin(), vocabulary.end(), '\n'), 30522) << model->tokenizer.name;
    }
  }
}

TEST(ReadyConfigs, OfMedpixSmallHaveTheSizesOfTheComparison) {
  const Config config = ready("medpix_small.yaml");
  EXPECT_EQ(config.teacher.vision.image_size, 112);
  EXPECT_EQ(config.teacher.vision.hidden_size, 256);
  EXPECT_EQ(config.teacher.vision.num_hidden_layers, 6);
  EXPECT_EQ(config.teacher.text.num_hidden_layers, 4);
  EXPECT_EQ(config.student.vision.image_size, 112);
  EXPECT_EQ(config.student.text.num_attention_heads, 2);
  EXPECT_EQ(config.teacher.fusion_layers, 1);
  EXPECT_EQ(term_of(config, LossTermType::crd).weight, 10);
  EXPECT_EQ(term_of(config, LossTermType::kl).T, 4);
  EXPECT_EQ(config.training.student_lr, 3e-4);
}

TEST(ReadyConfigs, OfTheDemoHaveTheTwoTasksOfItsData) {
  const auto tasks = resolved_tasks(ready("demo.yaml").data);
  EXPECT_EQ(tasks, (std::vector<TaskConfig>{{"shape", "shape"}, {"site", "site"}}));
}

}  // namespace
}  // namespace mmkd
