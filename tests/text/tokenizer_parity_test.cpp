#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

#include "mmkd/text/tokenizer.h"

namespace mmkd {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

const fs::path cases = fs::path(MMKD_SOURCE_DIR) / "tests/parity/cases";

std::vector<std::string> case_names() {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(cases)) {
    const auto name = entry.path().filename().string();
    if (name.starts_with("tokenizer-")) names.push_back(name);
  }
  std::ranges::sort(names);
  return names;
}

class TokenizerCase : public testing::TestWithParam<std::string> {};

TEST_P(TokenizerCase, GivesTheIdsOfTheReference) {
  const auto folder = cases / GetParam();
  std::ifstream case_file(folder / "case.json");
  const auto config = json::parse(case_file).at("config");
  WordPieceSettings settings{config.at("do_lower_case"), config.at("do_lower_case"),
                             config.at("tokenize_chinese_chars")};
  if (!config.at("strip_accents").is_null()) settings.strip_accents = config.at("strip_accents");
  const auto tokenizer = WordPieceTokenizer::from_file(folder / config.at("vocab").get<std::string>(), settings);
  std::ifstream lines(folder / "texts.jsonl");
  std::string line;
  int texts = 0;
  for (; std::getline(lines, line); ++texts) {
    const auto row = json::parse(line);
    EXPECT_EQ(tokenizer.encode(row.at("text").get<std::string>(), config.at("max_length")),
              row.at("ids").get<std::vector<std::int32_t>>())
        << "line " << texts + 1 << ": " << line.substr(0, 200);
  }
  EXPECT_GT(texts, 0);
}

std::string test_name(const testing::TestParamInfo<std::string>& parameter) {
  auto name = parameter.param;
  std::ranges::replace(name, '-', '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(Cases, TokenizerCase, testing::ValuesIn(case_names()), test_name);

}  // namespace
}  // namespace mmkd
