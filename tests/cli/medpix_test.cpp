#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

#include "tests/support/small_job.h"

// The real data set, where it is. Configurations name their tokenizer relative to the sources.
namespace mmkd::test {
namespace {

namespace fs = std::filesystem;

std::int64_t lines_of(const fs::path& file) {
  std::ifstream stream(file);
  std::int64_t count = 0;
  for (std::string line; std::getline(stream, line);) count += line.find_first_not_of(" \r\t") != std::string::npos;
  return count;
}

TEST(MedPix, IsPackedWholeAndPlanned) {
  const char* given = std::getenv("MMKD_MEDPIX_DIR");
  if (given == nullptr || *given == '\0') GTEST_SKIP() << "set MMKD_MEDPIX_DIR to the folder of MedPix 2.0";
  const fs::path data = given;
  const TempFolder folder;
  const std::vector<std::string> sets{"--set", "data.root=" + data.string(),
                                      "--set", "artifacts.root=" + (folder / "artifacts").string(),
                                      "--set", "logging.log_dir=" + (folder / "log").string()};
  const ProcessOptions options{.environment = {}, .folder = MMKD_SOURCE_DIR, .timeout = std::chrono::seconds(200)};
  const auto command = [&](const char* program) {
    std::vector<std::string> words{program, "config/medpix_small.yaml"};
    words.insert(words.end(), sets.begin(), sets.end());
    return words;
  };
  const auto packed = run(command(MMKD_PACK), options);
  ASSERT_EQ(packed.exit_code, 0) << packed.all();

  const fs::path pack = fs::directory_iterator(folder / "artifacts/pack")->path();
  std::ifstream stream(pack / "manifest.json");
  const auto manifest = nlohmann::json::parse(stream);
  for (const char* name : {"train", "dev", "test"}) {
    EXPECT_EQ(manifest.at("counts").at(name).get<std::int64_t>(),
              lines_of(data / "splitted_dataset" / (std::string("descriptions_") + name + ".jsonl")))
        << name;
  }
  ASSERT_EQ(manifest.at("tasks").size(), 2U);
  EXPECT_EQ(manifest.at("tasks").at(0).at("label"), "modality");
  EXPECT_EQ(manifest.at("tasks").at(0).at("classes"), nlohmann::json::parse(R"(["CT", "MR"])"));
  EXPECT_EQ(manifest.at("tasks").at(1).at("label"), "location");
  EXPECT_EQ(manifest.at("tasks").at(1).at("classes").size(), 5U);

  const auto verified = run({MMKD_PACK, "verify", pack.string()}, options);
  EXPECT_EQ(verified.exit_code, 0) << verified.all();
  const auto planned = run(on_ranks(2,
                                    [&] {
                                      auto words = command(MMKD_DDP);
                                      words.emplace_back("--dry-run");
                                      return words;
                                    }()),
                           options);
  ASSERT_EQ(planned.exit_code, 0) << planned.all();
  for (const char* stage : {"pack", "teacher", "cache", "student", "test"})
    EXPECT_TRUE(contains(planned.out, "\n" + std::string(stage) + " ")) << planned.out;
  EXPECT_FALSE(fs::exists(folder / "log"));
}

}  // namespace
}  // namespace mmkd::test
