#include "mmkd/config/teachers.h"

#include <gtest/gtest.h>

#include "mmkd/base/error.h"
#include "mmkd/base/files.h"
#include "tests/config/config_testing.h"
#include "tests/support/temp_folder.h"

namespace mmkd {
namespace {

using config_testing::kMinimal;

Config with(const std::vector<std::string>& sets) { return config_testing::minimal(sets).config; }

/// A student that learns from the teacher of a run.
Config learning_from(const std::filesystem::path& run) {
  return config_testing::load(kMinimal, {"teacher={runs: [\"" + run.string() + "\"]}"}).config;
}

TEST(TeacherSources, AreOneForEachSeedAndTheSeedOfTrainingWithoutAny) {
  const auto one = teacher_sources(with({"training.seed=4"}));
  ASSERT_EQ(one.size(), 1U);
  EXPECT_EQ(one[0].seed, 4);
  EXPECT_TRUE(one[0].trained);
  const auto three = teacher_sources(with({"teacher.seeds=[1, 2, 3]"}));
  ASSERT_EQ(three.size(), 3U);
  EXPECT_EQ(three[2].seed, 3);
}

TEST(TeacherSources, AreNoneWithoutDistillation) {
  EXPECT_TRUE(teacher_sources(with({"loss.type=ce_only", "training.teacher_epochs=0"})).empty());
}

TEST(TeacherSources, OfARunAreItsModelAndWeightsAsTheyAre) {
  const test::TempFolder folder;
  const auto run = folder.path() / "run";
  std::filesystem::create_directory(run);
  write_file_atomic(run / "config.yaml", kMinimal);
  EXPECT_THROW(teacher_sources(learning_from(run)), UsageError);  // no weights
  write_file_atomic(run / "teacher.safetensors", "x");
  const auto sources = teacher_sources(learning_from(run));
  ASSERT_EQ(sources.size(), 1U);
  EXPECT_FALSE(sources[0].trained);
  EXPECT_EQ(sources[0].weights, run / "teacher.safetensors");
  EXPECT_EQ(sources[0].model.vision.name, with({}).teacher.vision.name);
}

TEST(TeacherSources, OfAFolderThatIsNoRunAreAUsageError) {
  const test::TempFolder folder;
  try {
    (void)teacher_sources(learning_from(folder.path()));
    FAIL();
  } catch (const UsageError& error) {
    EXPECT_NE(std::string(error.what()).find("config.yaml"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace mmkd
