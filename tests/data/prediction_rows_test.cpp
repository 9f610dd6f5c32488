#include "mmkd/data/prediction_rows.h"

#include <gtest/gtest.h>

#include <fstream>

#include "mmkd/base/error.h"
#include "tests/support/temp_folder.h"

namespace mmkd {
namespace {

struct Read {
  std::vector<PredictionRow> rows;
  std::vector<std::string> problems;
};

class PredictionRows : public ::testing::Test {
 protected:
  Read read(const std::string& name, const std::string& text, const PredictionColumns& columns = {}) {
    std::ofstream(folder_ / name, std::ios::binary) << text;
    Read result;
    read_prediction_rows(
        folder_ / name, columns, "root", [&](const PredictionRow& row) { result.rows.push_back(row); },
        [&](const std::string& where, const std::string& what) {
          result.problems.push_back(where.substr(where.rfind('/') + 1) + ": " + what);
        });
    return result;
  }
  test::TempFolder folder_;
};

TEST_F(PredictionRows, ReadsBothKindsOfTablesAlike) {
  const auto csv = read("t.csv", "id,image,text\na,x.png,words\nb,,only words\nc,/abs/y.png,\n");
  const auto jsonl = read("t.jsonl",
                          "{\"id\": \"a\", \"image\": \"x.png\", \"text\": \"words\"}\n"
                          "{\"id\": \"b\", \"image\": null, \"text\": \"only words\"}\n"
                          "{\"id\": \"c\", \"image\": \"/abs/y.png\"}\n");
  for (const auto* table : {&csv, &jsonl}) {
    EXPECT_TRUE(table->problems.empty());
    ASSERT_EQ(table->rows.size(), 3U);
    EXPECT_EQ(table->rows[0].id, "a");
    EXPECT_EQ(table->rows[0].image, "root/x.png");
    EXPECT_EQ(table->rows[0].text, "words");
    EXPECT_TRUE(table->rows[1].image.empty());
    EXPECT_EQ(table->rows[2].image, "/abs/y.png");
    EXPECT_TRUE(table->rows[2].text.empty());
  }
  EXPECT_TRUE(csv.rows[1].where.ends_with("t.csv:3")) << csv.rows[1].where;
  EXPECT_TRUE(jsonl.rows[1].where.ends_with("t.jsonl:2")) << jsonl.rows[1].where;
}

TEST_F(PredictionRows, NumbersRowsWithoutAnIdAndDescendsIntoKeys) {
  const auto table = read("t.jsonl", "{\"note\": {\"caption\": \"one\"}}\n\n{\"note\": {\"caption\": \"two\"}}\n",
                          {.id = "id", .image = "image", .text = "note.caption"});
  ASSERT_EQ(table.rows.size(), 2U);
  EXPECT_EQ(table.rows[0].id, "1");
  EXPECT_EQ(table.rows[1].id, "2");
  EXPECT_EQ(table.rows[1].text, "two");
}

TEST_F(PredictionRows, ReportsRowsThatCannotBeUsedAndGoesOn) {
  const auto csv = read("t.csv", "id,text\na,words\nb\n,words\nc,\nd,\xff\xfe\ne,words\n");
  ASSERT_EQ(csv.rows.size(), 2U) << "a and e";
  ASSERT_EQ(csv.problems.size(), 4U);
  EXPECT_EQ(csv.problems[0], "t.csv:3: the row has 1 cells, the header 2");
  EXPECT_EQ(csv.problems[1], "t.csv:4: the id (column 'id') is empty");
  EXPECT_EQ(csv.problems[2], "t.csv:5: there is neither an image ('image') nor a text ('text')");
  EXPECT_TRUE(csv.problems[3].starts_with("t.csv:6: ")) << csv.problems[3];
  const auto jsonl = read("t.jsonl", "{\"text\": \"a\"}\nnot json\n[1]\n{\"text\": 3}\n{\"text\": \"b\"}\n");
  EXPECT_EQ(jsonl.rows.size() + jsonl.problems.size(), 5U);
  EXPECT_GE(jsonl.problems.size(), 2U);
}

TEST_F(PredictionRows, RefusesTablesThatCannotHoldAny) {
  EXPECT_THROW(read("t.txt", "id,text\na,b\n"), UsageError);
  EXPECT_THROW(read("t.csv", "id,caption\na,b\n"), Error);
  EXPECT_THROW(read("t.csv", ""), Error);
}

TEST_F(PredictionRows, PassesOnWhatTheRowCallbackThrows) {
  std::ofstream(folder_ / "t.jsonl") << "{\"text\": \"a\"}\n";
  const auto stop = [](const PredictionRow&) { throw Error("stop"); };
  EXPECT_THROW(read_prediction_rows(folder_ / "t.jsonl", {}, "root", stop,
                                    [](const auto&, const auto& what) { FAIL() << what; }),
               Error);
}

}  // namespace
}  // namespace mmkd
