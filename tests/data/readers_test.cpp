#include <gtest/gtest.h>

#include "mmkd/base/error.h"
#include "mmkd/data/sample.h"
#include "tests/data/small_set.h"
#include "tests/support/expect_contains.h"
#include "tests/support/temp_folder.h"

namespace mmkd {
namespace {

namespace fs = std::filesystem;

using test::write_plain;

/// What reading says is wrong; empty: nothing.
std::string complaint(const DataConfig& data, Split split = Split::train) {
  try {
    read_split(data, split);
    return "";
  } catch (const Error& e) {
    return e.what();
  }
}

// ---------------------------------------------------------------- MedPix

class MedPix : public ::testing::Test {
 protected:
  MedPix() {
    data_.type = DatasetType::medpix;
    data_.root = folder_.path();
  }
  test::TempFolder folder_;
  DataConfig data_;
};

constexpr const char* kMedPixLines =
    R"({"image": "MPX1", "Type": "CT", "Location Category": "Head", "Description": {"Caption": " A caption. "}})"
    "\r\n\n"
    R"({"image": "MPX2", "Type": "MR", "Location Category": "Spine", "Description": {"Caption": null}})"
    "\n"
    R"({"image": "MPX3", "Type": "MR", "Location Category": "Head"})"
    "\n";

TEST_F(MedPix, ReadsIdImageCaptionAndBothLabels) {
  write_plain(folder_ / "descriptions_dev.jsonl", kMedPixLines);
  const auto samples = read_split(data_, Split::dev);
  ASSERT_EQ(samples.size(), 3U);
  EXPECT_EQ(samples[0].id, "MPX1");
  EXPECT_EQ(samples[0].image, folder_ / "images/MPX1.png");
  EXPECT_EQ(samples[0].text, "A caption.");
  EXPECT_EQ(samples[0].labels, (std::vector<std::string>{"CT", "Head"}));
  EXPECT_EQ(samples[0].where, (folder_ / "descriptions_dev.jsonl").string() + ":1");
  EXPECT_EQ(samples[2].where, (folder_ / "descriptions_dev.jsonl").string() + ":4");
}

TEST_F(MedPix, ReplacesEmptyCaptions) {
  write_plain(folder_ / "descriptions_train.jsonl", kMedPixLines);
  const auto samples = read_split(data_, Split::train);
  EXPECT_FALSE(samples[0].text_was_empty);
  for (const std::size_t i : {1U, 2U}) {
    EXPECT_TRUE(samples[i].text_was_empty);
    EXPECT_EQ(samples[i].text, "No description available");
  }
}

TEST_F(MedPix, LooksIntoSplittedDatasetToo) {
  write_plain(folder_ / "splitted_dataset/descriptions_train.jsonl", kMedPixLines);
  EXPECT_EQ(read_split(data_, Split::train).size(), 3U);
  expect_contains(complaint(data_, Split::test), "descriptions_test.jsonl: not found");
}

TEST_F(MedPix, ListsAllBadRowsOfAFile) {
  write_plain(folder_ / "descriptions_train.jsonl", R"({"image": "a", "Type": "CT", "Location Category": "Head"})"
                                                    "\n"
                                                    R"({"image": "a", "Type": "CT", "Location Category": "Head"})"
                                                    "\n"
                                                    R"({"image": "b", "Type": "CT"})"
                                                    "\n"
                                                    R"({"image": "../../b", "Type": "CT", "Location Category": "Head"})"
                                                    "\nno JSON\n"
                                                    R"({"image": "c", "Type": " ", "Location Category": "Head"})"
                                                    "\n");
  const auto text = complaint(data_);
  expect_contains(text, "4 bad rows");
  expect_contains(text, ":3: there is no key 'Location Category'");
  expect_contains(text, ":4: image path 'images/../../b.png' is not below the data folder");
  expect_contains(text, ":5: ");
  expect_contains(text, ":6: the label of task 'modality' (column 'Type') is empty");
}

// ---------------------------------------------------------------- wound

class Wound : public ::testing::Test {
 protected:
  Wound() {
    data_.type = DatasetType::wound;
    data_.root = folder_.path();
  }
  void write(const std::string& text) const { write_plain(folder_ / "metadata_train.csv", text); }
  test::TempFolder folder_;
  DataConfig data_;
};

TEST_F(Wound, ReadsQuotedCellsByteOrderMarkAndCrlf) {
  write(
      "\xEF\xBB\xBF"
      "file_path,type,severity,description\r\na.png,burn,high,\"red, \"\"raw\"\"\"\r\nb.png,cut,low,\r\n");
  write_plain(folder_ / "images/b.png", "");
  write_plain(folder_ / "a.png", "");
  const auto samples = read_split(data_, Split::train);
  ASSERT_EQ(samples.size(), 2U);
  EXPECT_EQ(samples[0].id, "a.png");
  EXPECT_EQ(samples[0].image, folder_ / "a.png");
  EXPECT_EQ(samples[0].text, "red, \"raw\"");
  EXPECT_EQ(samples[0].labels, (std::vector<std::string>{"burn", "high"}));
  EXPECT_EQ(samples[1].image, folder_ / "images/b.png") << "where it is not beside the table";
  EXPECT_TRUE(samples[1].text_was_empty);
}

TEST_F(Wound, TakesTheConfiguredColumns) {
  data_.type_column = "kind";
  data_.severity_column = "grade";
  data_.description_column = "note";
  data_.filepath_column = "picture";
  write("note,grade,kind,picture\nn,1,k,p.png\n");
  const auto samples = read_split(data_, Split::train);
  ASSERT_EQ(samples.size(), 1U);
  EXPECT_EQ(samples[0].text, "n");
  EXPECT_EQ(samples[0].labels, (std::vector<std::string>{"k", "1"}));
}

TEST_F(Wound, RefusesRaggedRowsMissingColumnsAndImagesOutsideTheDataFolder) {
  write("file_path,type,severity,description\na.png,burn\n");
  expect_contains(complaint(data_), ":2: the row has 2 cells, the header 4");
  write("file_path,type,description\na.png,burn,d\n");
  expect_contains(complaint(data_), "there is no column 'severity'; the table has description, file_path, type");
  for (const std::string path : {"../a.png", "/etc/passwd", "x/../../a.png", ".."}) {
    write("file_path,type,severity,description\n" + path + ",burn,high,d\n");
    expect_contains(complaint(data_), "image path '" + path + "' is not below the data folder");
  }
  expect_contains(complaint(data_, Split::dev), "metadata_dev.csv");
}

// ---------------------------------------------------------------- tables of any kind

class AnyTable : public ::testing::Test {
 protected:
  AnyTable() {
    data_.type = DatasetType::table;
    data_.root = folder_.path();
    data_.table = {.train = "train.csv", .dev = "dev.jsonl", .test = ""};
    data_.tasks = {{"shape", "shape"}, {"site", "where.site"}};
  }
  test::TempFolder folder_;
  DataConfig data_;
};

TEST_F(AnyTable, ReadsCsvAndJsonLinesAlike) {
  data_.table.image_root = "pictures";
  write_plain(folder_ / "train.csv", "id,image,text,shape,where.site\n 1 , sub/a.png ,t,circle,arm\n");
  write_plain(folder_ / "dev.jsonl",
              R"({"id": 1, "image": "sub/a.png", "text": "t", "shape": "circle", "where": {"site": "arm"}})"
              "\n");
  for (const Split split : {Split::train, Split::dev}) {
    const auto samples = read_split(data_, split);
    ASSERT_EQ(samples.size(), 1U);
    EXPECT_EQ(samples[0].id, "1");
    EXPECT_EQ(samples[0].image, folder_ / "pictures/sub/a.png");
    EXPECT_EQ(samples[0].text, "t");
    EXPECT_EQ(samples[0].labels, (std::vector<std::string>{"circle", "arm"}));
  }
}

TEST_F(AnyTable, MayLackATestTableButNoOther) {
  EXPECT_TRUE(read_split(data_, Split::test).empty());
  data_.table.train = "";
  EXPECT_THROW(read_split(data_, Split::train), UsageError);
  data_.table.train = "train.parquet";
  EXPECT_THROW(read_split(data_, Split::train), UsageError);
  data_.table.train = "missing.csv";
  expect_contains(complaint(data_), "missing.csv");
}

TEST_F(AnyTable, RefusesEmptyIdsAndImagesOutsideTheImageRoot) {
  data_.table.image_root = "pictures";
  write_plain(folder_ / "train.csv", "id,image,text,shape,where.site\n1,a,t,s,w\n3,b,t,s,w\n,c,t,s,w\n2,../a,t,s,w\n");
  const auto text = complaint(data_);
  expect_contains(text, "2 bad rows");
  expect_contains(text, ":4: the sample id is empty");
  expect_contains(text, ":5: image path '../a' is not below");
}

TEST_F(AnyTable, RefusesIdsAndLabelsThatAreNotUtf8ButKeepsSuchTexts) {
  write_plain(folder_ / "train.csv", "id,image,text,shape,where.site\n1,a,caf\xE9,s,w\n");
  EXPECT_EQ(read_split(data_, Split::train).at(0).text, "caf\xE9");
  write_plain(folder_ / "train.csv", "id,image,text,shape,where.site\n1,a,t,caf\xE9,w\n\xE9,a,t,s,w\n");
  const auto text = complaint(data_);
  expect_contains(text, ":2: the label is not UTF-8");
  expect_contains(text, ":3: the sample id is not UTF-8");
}

TEST_F(AnyTable, ListsAtMostTwentyBadRows) {
  std::string table = "id,image,text,shape,where.site\n";
  for (int i = 0; i < 25; ++i) table += "x\n";
  write_plain(folder_ / "train.csv", table);
  const auto text = complaint(data_);
  expect_contains(text, "25 bad rows");
  expect_contains(text, "and 5 more");
  EXPECT_EQ(text.find("train.csv:22"), std::string::npos);
}

}  // namespace
}  // namespace mmkd
