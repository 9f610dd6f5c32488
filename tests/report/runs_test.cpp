#include "mmkd/report/runs.h"

#include <gtest/gtest.h>

#include <fstream>

#include "mmkd/base/error.h"
#include "tests/support/temp_folder.h"

namespace mmkd {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

Json result(int seed, const std::string& fusion, double dev, double test) {
  return {{"config", Json::object()},
          {"metrics", {{"dev", {{"dev_organ_f1", dev}}}, {"test", {{"test_organ_f1", test}}}}},
          {"models", {{"teacher", nullptr}, {"student", {{"params_millions", 1.234}}}}},
          {"fusion", {{"type", fusion}}},
          {"loss", {{"type", "terms"}, {"terms", {{{"ce", {{"weight", 1}}}}, {{"dkd", {{"weight", 1}}}}}}}},
          {"data", {{"tasks", {{{"key", "organ"}}}}}},
          {"seed", seed}};
}

class Runs : public ::testing::Test {
 protected:
  void write(const std::string& file, const std::string& text) {
    fs::create_directories((folder_ / file).parent_path());
    std::ofstream(folder_ / file) << text;
  }
  test::TempFolder folder_;
};

TEST_F(Runs, AreComparedWithMeanAndDeviationOfTheirSeeds) {
  write("a/run/results.json", result(0, "film", 0.5, 0.25).dump());
  write("b/run/seeds.json", R"({"seeds": [3, 4]})");
  write("b/run/seed-3/results.json", result(3, "a|b", 0.5, 0.4).dump());
  write("b/run/seed-4/results.json", result(4, "a|b", 0.7, 0.6).dump());
  const auto runs = read_runs({folder_ / "a/run", folder_ / "b"}).runs;
  ASSERT_EQ(runs.size(), 2U);
  EXPECT_EQ(runs[0].name, "a/run");
  EXPECT_EQ(runs[1].name, "b/run");
  const auto table = comparison(runs);
  EXPECT_EQ(table.columns, (std::vector<std::string>{"run", "fusion", "loss", "parameters (M)", "seeds", "dev organ F1",
                                                     "test organ F1"}));
  EXPECT_EQ(table.rows[0], (std::vector<std::string>{"a/run", "film", "ce + dkd", "1.23", "1", "0.500", "0.250"}));
  EXPECT_EQ(table.rows[1],
            (std::vector<std::string>{"b/run", "a|b", "ce + dkd", "1.23", "2", "0.600 ± 0.141", "0.500 ± 0.141"}));
  EXPECT_NE(markdown(table).find("| b/run | a\\|b | ce + dkd |"), std::string::npos);
  EXPECT_NE(csv(table).find("\nb/run,a|b,ce + dkd,1.23,2,0.600 ± 0.141,"), std::string::npos);
  EXPECT_NE(latex(table).find("0.600 $\\pm$ 0.141"), std::string::npos);
}

TEST_F(Runs, RefusesWhatNoRunLeft) {
  EXPECT_THROW(read_runs({folder_ / "nowhere"}), UsageError);
  write("a/results.json", "{}");
  EXPECT_THROW(read_runs({folder_ / "a"}), Error);
  write("a/results.json", "[1]");
  EXPECT_THROW(read_runs({folder_ / "a"}), Error);
  write("b/seeds.json", R"({"seeds": [1]})");
  EXPECT_THROW(read_runs({folder_ / "b"}), Error);
}

TEST_F(Runs, OfSeveralSeedsNeedNoSummary) {
  for (const int seed : {10, 2, 1})
    write(fmt::format("sweep/gated/seed-{}/results.json", seed), result(seed, "gated", 0.5, 0.1 * seed).dump());
  write("sweep/gated/seed-notes/results.json", "not read");
  write("sweep/film/results.json", result(0, "film", 0.5, 0.25).dump());
  const auto found = read_runs({folder_ / "sweep"});
  ASSERT_EQ(found.runs.size(), 2U);
  EXPECT_EQ(found.runs[1].name, "gated");
  std::vector<int> seeds;
  for (const auto& one : found.runs[1].results) seeds.push_back(one.at("seed").get<int>());
  EXPECT_EQ(seeds, (std::vector<int>{1, 2, 10})) << "the order of the numbers";
  EXPECT_EQ(found.runs[1].folders.back(), folder_ / "sweep/gated/seed-10");
  EXPECT_TRUE(found.left_out.empty());
  EXPECT_EQ(read_runs({folder_ / "sweep/gated"}).runs.size(), 1U) << "itself a run, no folder of three";
}

TEST_F(Runs, NameWhatIsNotFinished) {
  write("sweep/a/seed-0/results.json", result(0, "film", 0.5, 0.25).dump());
  write("sweep/a/seed-1/run.log", "");
  write("sweep/b/run.log", "");
  write("sweep/c/seed-0/config.yaml", "");
  write("sweep/tables/notes.txt", "no log folder");
  const auto found = read_runs({folder_ / "sweep"});
  ASSERT_EQ(found.runs.size(), 1U);
  EXPECT_EQ(found.left_out,
            (std::vector<std::string>{folder_ / "sweep/b", folder_ / "sweep/c", folder_ / "sweep/a/seed-1"}));
}

TEST(MeanStd, IsTheSampleDeviation) {
  EXPECT_EQ(mean_std({2}).std, 0);
  EXPECT_DOUBLE_EQ(mean_std({1, 2, 3}).mean, 2);
  EXPECT_DOUBLE_EQ(mean_std({1, 2, 3}).std, 1);
}

}  // namespace
}  // namespace mmkd
