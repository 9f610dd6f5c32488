#include "mmkd/data/split_table.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "mmkd/base/error.h"
#include "mmkd/base/files.h"
#include "mmkd/data/tables.h"
#include "tests/data/small_set.h"

namespace mmkd {
namespace {

using Cells = std::map<std::string, std::string>;

/// A table of wounds: `rows` rows with pictures of their own, unequal classes and a copy of every seventh picture.
class SplitTable : public ::testing::Test {
 protected:
  void write_table(std::size_t rows) {
    std::string text = "file_path,type,severity,description\n";
    for (std::size_t i = 0; i < rows; ++i) {
      const auto file = "w" + std::to_string(i) + ".png";
      // Every seventh is a copy of the one before, under a name of its own.
      write_picture(file, i % 7 == 6 ? i - 1 : i);
      text += file + "," +
              (i % 5 == 0   ? "burn"
               : i % 3 == 0 ? "ulcer"
                            : "cut") +
              "," + (i % 4 == 0 ? "high" : "low") + ",\"row " + std::to_string(i) + ", with a comma\"\n";
    }
    write_file_atomic(folder_ / "table.csv", text);
    options_.table = folder_ / "table.csv";
    options_.output = folder_ / "out";
    options_.stratify = {"type", "severity"};
  }

  void write_picture(const std::string& file, std::size_t number) const {
    test::write_plain(folder_ / ("images/" + file), test::make_png(5, static_cast<unsigned>(number)));
  }

  std::array<std::vector<Cells>, 3> splits() const {
    std::array<std::vector<Cells>, 3> splits;
    const std::array names{"train", "dev", "test"};
    for (std::size_t s = 0; s < names.size(); ++s) {
      const auto columns = read_csv(
          options_.output / ("metadata_" + std::string(names[s]) + ".csv"),
          [&](const Cells& cells, std::size_t) { splits[s].push_back(cells); },
          [](const std::string& where, const std::string& what) { FAIL() << where << ": " << what; });
      EXPECT_EQ(columns, (std::vector<std::string>{"file_path", "type", "severity", "description"}));
    }
    return splits;
  }

  test::TempFolder folder_;
  SplitTableOptions options_;
};

TEST_F(SplitTable, KeepsSharesOfEveryCombinationAndEveryRow) {
  write_table(400);
  const auto summary = split_table(options_);
  EXPECT_EQ(summary.rows[0] + summary.rows[1] + summary.rows[2], 400U);
  EXPECT_NEAR(static_cast<double>(summary.rows[0]), 280, 3);
  EXPECT_NEAR(static_cast<double>(summary.rows[1]), 60, 3);
  EXPECT_NEAR(static_cast<double>(summary.rows[2]), 60, 3);
  EXPECT_EQ(summary.pictures, 400U - 400U / 7);
  EXPECT_TRUE(summary.missing.empty());

  const auto all = splits();
  std::map<std::string, std::array<double, 3>> strata;
  std::set<std::string> descriptions;
  for (std::size_t s = 0; s < all.size(); ++s) {
    int last = -1;
    for (const auto& row : all[s]) {
      strata[row.at("type") + row.at("severity")][s] += 1;
      EXPECT_TRUE(descriptions.insert(row.at("description")).second) << "a row in two splits";
      const int number = std::stoi(row.at("file_path").substr(1));
      EXPECT_GT(number, last) << "rows keep their order";
      last = number;
    }
  }
  EXPECT_EQ(descriptions.size(), 400U);
  ASSERT_EQ(strata.size(), 6U);
  for (const auto& [name, counts] : strata) {
    const double size = counts[0] + counts[1] + counts[2];
    // Rows of one picture stay together even where their labels differ.
    for (std::size_t s = 0; s < 3; ++s) EXPECT_NEAR(counts[s], options_.shares[s] * size, 5) << name << " " << s;
  }
}

TEST_F(SplitTable, PutsEqualPicturesIntoOneSplit) {
  write_table(140);
  split_table(options_);
  std::map<std::string, std::size_t> split_of;
  const auto all = splits();
  for (std::size_t s = 0; s < all.size(); ++s) {
    for (const auto& row : all[s]) split_of[row.at("file_path")] = s;
  }
  for (int i = 6; i < 140; i += 7)
    EXPECT_EQ(split_of.at("w" + std::to_string(i) + ".png"), split_of.at("w" + std::to_string(i - 1) + ".png")) << i;
}

TEST_F(SplitTable, IsAFunctionOfTheSeed) {
  write_table(60);
  const auto read = [&] { return read_file(options_.output / "metadata_test.csv"); };
  split_table(options_);
  const auto first = read();
  EXPECT_THROW(split_table(options_), UsageError) << "never over an existing division";
  EXPECT_EQ(read(), first);
  options_.output = folder_ / "again";
  split_table(options_);
  EXPECT_EQ(read(), first);
  options_.output = folder_ / "other";
  options_.seed = 1;
  split_table(options_);
  EXPECT_NE(read(), first);
}

TEST_F(SplitTable, ReportsClassesThatASplitLacks) {
  write_table(20);
  std::string text = read_file(options_.table);
  write_picture("rare.png", 1000);
  write_file_atomic(options_.table, text + "rare.png,bite,low,rare\n");
  const auto summary = split_table(options_);
  EXPECT_EQ(std::count_if(summary.missing.begin(), summary.missing.end(),
                          [](const auto& line) { return line.find("type 'bite'") != std::string::npos; }),
            2)
      << "one picture can be in one split alone";
}

TEST_F(SplitTable, NamesAllBadRows) {
  write_table(10);
  write_file_atomic(options_.table, read_file(options_.table) +
                                        "none.png,cut,low,no picture\nw1.png,,low,no type\n../x.png,cut,low,outside\n");
  try {
    split_table(options_);
    FAIL();
  } catch (const Error& e) {
    const std::string what = e.what();
    for (const std::string part : {"3 bad rows", "table.csv:12", "none.png", "column 'type' is empty", "../x.png"})
      EXPECT_NE(what.find(part), std::string::npos) << part << " in " << what;
  }
  EXPECT_FALSE(fs::exists(options_.output));
}

TEST_F(SplitTable, RefusesWrongOptions) {
  write_table(10);
  auto wrong = options_;
  wrong.shares = {0.5, 0.2, 0.2};
  EXPECT_THROW(split_table(wrong), UsageError);
  wrong.shares = {1.2, -0.1, -0.1};
  EXPECT_THROW(split_table(wrong), UsageError);
  wrong = options_;
  wrong.stratify = {};
  EXPECT_THROW(split_table(wrong), UsageError);
  wrong.stratify = {"colour"};
  EXPECT_THROW(split_table(wrong), UsageError);
}

}  // namespace
}  // namespace mmkd
