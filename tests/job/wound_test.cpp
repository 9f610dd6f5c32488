#include <gtest/gtest.h>

#include <fstream>
#include <set>
#include <sstream>

#include "mmkd/formats/safetensors.h"
#include "tests/support/small_job.h"

// A table of wounds from its division to a tested student: the tasks are called type and severity wherever they appear.
namespace mmkd::test {
namespace {

namespace fs = std::filesystem;

constexpr const char* kData =
    "data: {type: wound, root: wound, batch_size: 16, num_workers: 1, max_length: 24}\n"
    "evaluation: {mcnemar: true}\n";

/// The demo data as one table in the wound format; pictures below wound/images.
void write_wounds(const SmallJob& job) {
  fs::create_directories(job / "wound/images");
  std::string csv = "file_path,type,severity,description\n";
  for (const std::string split : {"train", "dev", "test"}) {
    for (const auto& row : job.rows(split)) {
      const auto name = fs::path(row.at("image").get<std::string>()).filename().string();
      fs::copy_file(job / ("data/" + row.at("image").get<std::string>()), job / ("wound/images/" + name));
      csv += name + "," + row.at("shape").get<std::string>() + "," + row.at("site").get<std::string>() + ",\"" +
             row.at("text").get<std::string>() + "\"\n";
    }
  }
  job.write("wound/all.csv", csv);
  const auto yaml = job.read("job.yaml");
  job.write("job.yaml", kData + yaml.substr(yaml.find("teacher:")));
}

std::size_t lines_of(const std::string& text) {
  return static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n'));
}

TEST(Wound, IsDividedPackedTrainedAndTested) {
  const SmallJob job(120, 30, 30);
  write_wounds(job);
  const auto divided = run({MMKD_PACK, "split", "wound/all.csv", "--out", "wound"}, job.options());
  ASSERT_EQ(divided.exit_code, 0) << divided.all();
  std::size_t rows = 0;
  for (const std::string split : {"train", "dev", "test"})
    rows += lines_of(job.read("wound/metadata_" + split + ".csv"));
  EXPECT_EQ(rows, 180U + 3U);
  EXPECT_NEAR(static_cast<double>(lines_of(job.read("wound/metadata_train.csv"))), 127, 2);

  const auto drawn = run({MMKD_PACK, "preview", "job.yaml", "--split", "dev", "--out", "preview.png"}, job.options());
  EXPECT_EQ(drawn.exit_code, 0) << drawn.all();
  EXPECT_TRUE(job.read("preview.png").starts_with("\x89PNG"));

  const auto packed = job.pack();
  ASSERT_EQ(packed.exit_code, 0) << packed.all();
  const auto trained = job.ddp(2);
  ASSERT_EQ(trained.exit_code, 0) << trained.all();
  const fs::path logs = job / "logs/run";
  const auto results = nlohmann::json::parse(job.read("logs/run/results.json"));
  for (const std::string task : {"type", "severity"}) {
    for (const std::string split : {"dev", "test"}) {
      EXPECT_TRUE(results.at("metrics").at(split).contains(split + "_" + task + "_f1")) << split << task;
      EXPECT_TRUE(fs::exists(logs / ("confusion_" + split + "_" + task + ".csv"))) << split << task;
    }
    EXPECT_TRUE(contains(job.read("logs/run/predictions_test.csv"), task + "_pred"));
    EXPECT_TRUE(contains(job.read("logs/run/metrics.csv"), "dev_" + task + "_f1"));
    EXPECT_TRUE(contains(results.at("studies").dump(), "\"" + task + "\"")) << task;
  }
  const SafetensorsFile weights(logs / "student_best.safetensors");
  EXPECT_TRUE(weights.header().tensors.contains("head_type.head.1.weight"));
  EXPECT_TRUE(weights.header().tensors.contains("head_severity.head.1.weight"));
  for (const auto& [file, text] : all_files(logs)) {
    if (file.ends_with(".csv") || file == "metrics.json") {
      EXPECT_FALSE(contains(text, "task1")) << file;
      EXPECT_FALSE(contains(text, "modality_f1")) << file;
    }
  }
}

TEST(Wound, IsNotDividedOverAnExistingDivision) {
  const SmallJob job(20, 5, 5);
  write_wounds(job);
  const std::vector<std::string> command{MMKD_PACK, "split", "wound/all.csv", "--out", "wound"};
  ASSERT_EQ(run(command, job.options()).exit_code, 0);
  const auto again = run(command, job.options());
  EXPECT_EQ(again.exit_code, 2) << again.all();
  EXPECT_TRUE(contains(again.err, "metadata_train.csv")) << again.all();
  const auto column =
      run({MMKD_PACK, "split", "wound/all.csv", "--out", "other", "--stratify", "colour"}, job.options());
  EXPECT_NE(column.exit_code, 0);
  EXPECT_TRUE(contains(column.err, "colour")) << column.all();
}

}  // namespace
}  // namespace mmkd::test
