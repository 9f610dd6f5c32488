#include <gtest/gtest.h>

#include <fstream>

#include "tests/support/small_job.h"

// The configurations of tests/config/original, as users of the original system wrote them, from data set to report:
// with small towers in the places of the checkpoints that they name, and one epoch.
namespace mmkd::test {
namespace {

namespace fs = std::filesystem;

/// A folder with both data sets, and with weights/<Hugging Face id> for every tower that the configurations name.
class OriginalConfigs : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    write_medpix();
    write_wounds();
    write_towers();
    fs::copy_file(fs::path(MMKD_SOURCE_DIR) / "tests/config/original" / (std::string(GetParam()) + ".yaml"),
                  job_ / "original.yaml");
  }

  void copy_image(const Row& row, const std::string& to) const {
    fs::create_directories((job_ / to).parent_path());
    fs::copy_file(job_ / ("data/" + row.at("image").get<std::string>()), job_ / to);
  }

  void write_medpix() const {
    const std::string root = "datasets/MedPix-2-0/";
    for (const std::string split : {"train", "dev", "test"}) {
      std::string lines;
      for (const auto& row : job_.rows(split)) {
        const auto id = row.at("id").get<std::string>();
        lines += Row({{"Type", row.at("shape")},
                      {"image", id},
                      {"Description", {{"Caption", row.at("text")}}},
                      {"Location Category", row.at("site")}})
                     .dump() +
                 "\n";
        copy_image(row, root + "images/" + id + ".png");
      }
      job_.write(root + "splitted_dataset/descriptions_" + split + ".jsonl", lines);
    }
  }

  /// Under the names of columns of both configurations that read it.
  void write_wounds() const {
    for (const std::string split : {"train", "dev", "test"}) {
      std::string csv = "file_path,path,type,wound_type,severity,description,caption\n";
      for (const auto& row : job_.rows(split)) {
        const auto file = "images/" + row.at("id").get<std::string>() + ".png";
        const auto shape = row.at("shape").get<std::string>();
        const auto text = "\"" + row.at("text").get<std::string>() + "\"";
        csv += file + "," + file + "," + shape + "," + shape + "," + row.at("site").get<std::string>() + "," + text +
               "," + text + "\n";
        copy_image(row, "datasets/wound/" + file);
      }
      job_.write("datasets/wound/metadata_" + split + ".csv", csv);
    }
  }

  void write_towers() const {
    const std::vector<std::string> sets{
        "training.teacher_epochs=0", "training.student_epochs=1", "loss.type=ce_only",
        "student.text={family: bert, hidden_size: 16, num_hidden_layers: 1, num_attention_heads: 2}"};
    ASSERT_EQ(job_.pack(sets).exit_code, 0);
    ASSERT_EQ(job_.ddp(1, sets).exit_code, 0);
    const auto exported = run({MMKD_TOOL, "weights", "export", "logs/run", "--out", "towers"}, job_.options());
    ASSERT_EQ(exported.exit_code, 0) << exported.all();
    const auto place = [&](const std::string& tower, const std::string& id) {
      fs::create_directories((job_ / ("weights/" + id)).parent_path());
      fs::copy(job_ / ("towers/" + tower), job_ / ("weights/" + id), fs::copy_options::recursive);
    };
    for (const std::string id :
         {"google/vit-large-patch16-224", "google/vit-base-patch16-224", "facebook/deit-small-patch16-224",
          "facebook/deit-tiny-patch16-224", "apple/mobilevit-small"})
      place("vision", id);
    for (const std::string id : {"emilyalsentzer/Bio_ClinicalBERT", "nreimers/MiniLM-L6-H384-uncased",
                                 "prajjwal1/bert-mini", "prajjwal1/bert-tiny", "distilbert-base-uncased"})
      place("text", id);
  }

  SmallJob job_{48, 16, 16};
};

TEST_P(OriginalConfigs, RunToTheirEnd) {
  std::vector<std::string> sets;
  for (const std::string set : {"device=cpu", "weights.root=weights", "training.student_epochs=1"})
    sets.insert(sets.end(), {"--set", set});
  if (std::string(GetParam()) != "no_kd") sets.insert(sets.end(), {"--set", "training.teacher_epochs=1"});
  const auto command = [&](std::vector<std::string> start) {
    start.emplace_back("original.yaml");
    start.insert(start.end(), sets.begin(), sets.end());
    return start;
  };
  const auto packed = run(command({MMKD_PACK}), job_.options());
  ASSERT_EQ(packed.exit_code, 0) << packed.all();
  const auto trained = run(on_ranks(2, command({MMKD_DDP})), job_.options());
  ASSERT_EQ(trained.exit_code, 0) << trained.all();
  std::size_t results = 0;
  for (const auto& [file, text] : all_files(job_ / "logs")) {
    if (file.ends_with("results.json") && !file.starts_with("run/")) {
      ++results;
      EXPECT_TRUE(nlohmann::json::parse(text).at("metrics").contains("test")) << file;
    }
  }
  EXPECT_EQ(results, 1U);
}

INSTANTIATE_TEST_SUITE_P(All, OriginalConfigs,
                         ::testing::Values("fusion_explore", "loss_explore", "no_kd", "custom_student", "teacher_only",
                                           "wound"),
                         [](const auto& each) { return std::string(each.param); });

}  // namespace
}  // namespace mmkd::test
