#include "mmkd/data/tables.h"

#include <gtest/gtest.h>

#include "mmkd/base/error.h"

namespace mmkd {
namespace {

struct Table {
  std::vector<std::pair<std::size_t, std::map<std::string, std::string>>> rows;  // line, cells
  std::vector<std::string> problems;                                             // "where: what"
};

Table csv(const std::string& text) {
  Table table;
  parse_csv(
      text, "t.csv", [&](const auto& cells, std::size_t line) { table.rows.emplace_back(line, cells); },
      [&](const std::string& where, const std::string& what) { table.problems.push_back(where + ": " + what); });
  return table;
}

using Cells = std::map<std::string, std::string>;

TEST(Csv, ReadsQuotedCellsByColumn) {
  const auto table = csv("id,text\n1,\"a, \"\"b\"\"\nc\"\n2,plain\n");
  ASSERT_EQ(table.rows.size(), 2U);
  EXPECT_EQ(table.rows[0].second, (Cells{{"id", "1"}, {"text", "a, \"b\"\nc"}}));
  EXPECT_EQ(table.rows[1].second, (Cells{{"id", "2"}, {"text", "plain"}}));
  EXPECT_EQ(table.rows[0].first, 3U) << "the line that ends the row";
  EXPECT_EQ(table.rows[1].first, 4U);
  EXPECT_TRUE(table.problems.empty());
}

TEST(Csv, AcceptsAByteOrderMarkAndCrlfAndAMissingLastLineEnd) {
  const auto expected = csv("id,text\n1,a\n2,\n").rows;
  ASSERT_EQ(expected.size(), 2U);
  EXPECT_EQ(csv("\xEF\xBB\xBFid,text\r\n1,a\r\n2,\r\n").rows, expected);
  EXPECT_EQ(csv("id,text\n1,a\n2,").rows, expected);
}

TEST(Csv, CountsLinesThatEndWithACarriageReturnAlone) {
  std::vector<std::size_t> lines;
  parse_csv(
      "a,b\r1,2\r\r\n3,4\n5,6\r", "t.csv", [&](const auto&, std::size_t line) { lines.push_back(line); },
      [](const std::string& where, const std::string& what) { FAIL() << where << what; });
  EXPECT_EQ(lines, (std::vector<std::size_t>{2, 4, 5}));
}

TEST(Csv, ReportsRaggedRowsAndGoesOn) {
  const auto table = csv("id,text\n1\n2,b\n3,c,d\n");
  ASSERT_EQ(table.rows.size(), 1U);
  EXPECT_EQ(table.rows[0].second.at("id"), "2");
  EXPECT_EQ(table.problems, (std::vector<std::string>{"t.csv:2: the row has 1 cells, the header 2",
                                                      "t.csv:4: the row has 3 cells, the header 2"}));
}

TEST(Csv, RefusesWhatCannotBeDividedIntoRows) {
  EXPECT_THROW(csv(""), Error);
  EXPECT_THROW(csv("id,id\n1,2\n"), Error);
  EXPECT_THROW(csv("id,text\n1,\"open\n2,b\n"), Error);
  EXPECT_THROW(csv("id,text\n1,a\"b\"\n"), Error);
  EXPECT_THROW(read_csv("no such file.csv", nullptr, nullptr), Error);
}

TEST(Csv, PassesOnWhatTheRowCallbackThrows) {
  EXPECT_THROW(parse_csv(
                   "id\n1\n", "t.csv", [](const auto&, std::size_t) { throw Error("stop"); }, nullptr),
               Error);
}

Table jsonl(const std::string& text) {
  Table table;
  parse_jsonl(
      text, "t.jsonl",
      [&](const nlohmann::json& json, std::size_t line) {
        table.rows.emplace_back(line, Cells{{"json", json.dump()}});
      },
      [&](const std::string& where, const std::string& what) { table.problems.push_back(where + ": " + what); });
  return table;
}

TEST(Jsonl, ReadsOneObjectALineAndSkipsEmptyOnes) {
  const auto table = jsonl("\xEF\xBB\xBF{\"a\":1}\r\n\n  \t\n{\"b\":\"\\u00e4\"}");
  ASSERT_EQ(table.rows.size(), 2U);
  EXPECT_EQ(table.rows[0], (std::pair<std::size_t, Cells>{1, {{"json", "{\"a\":1}"}}}));
  EXPECT_EQ(table.rows[1], (std::pair<std::size_t, Cells>{4, {{"json", "{\"b\":\"ä\"}"}}}));
  EXPECT_TRUE(table.problems.empty());
}

TEST(Jsonl, ReportsLinesThatAreNoObjectAndGoesOn) {
  const auto table = jsonl("[1]\n{\"a\":}\n{\"a\":\"\xFF\"}\n{\"a\":2}\n" + std::string(100, '[') + "\n");
  ASSERT_EQ(table.rows.size(), 1U);
  EXPECT_EQ(table.rows[0].first, 4U);
  ASSERT_EQ(table.problems.size(), 4U);
  for (const std::size_t i : {0, 1, 2, 3}) {
    const std::string where = "t.jsonl:" + std::to_string(i < 3 ? i + 1 : 5) + ": ";
    EXPECT_EQ(table.problems[i].substr(0, where.size()), where);
  }
}

}  // namespace
}  // namespace mmkd
