#include <fstream>

#include "mmkd/base/error.h"
#include "mmkd/text/tokenizer.h"
#include "parity.h"

namespace mmkd::parity {
namespace {

WordPieceTokenizer tokenizer_of(const Case& c) {
  WordPieceSettings settings;
  settings.do_lower_case = c.config.at("do_lower_case");
  const auto& strip = c.config.at("strip_accents");
  settings.strip_accents = strip.is_null() ? settings.do_lower_case : strip.get<bool>();
  settings.tokenize_chinese_chars = c.config.at("tokenize_chinese_chars");
  return WordPieceTokenizer::from_file(c.folder / c.config.at("vocab").get<std::string>(), settings);
}

std::string first_difference(const std::vector<std::int32_t>& got, const std::vector<std::int32_t>& want) {
  const auto common = std::min(got.size(), want.size());
  std::size_t i = 0;
  while (i < common && got[i] == want[i]) ++i;
  const auto show = [i](const std::vector<std::int32_t>& ids) {
    return i < ids.size() ? std::to_string(ids[i]) : "the end";
  };
  return fmt::format("id {} is {}, want {}", i, show(got), show(want));
}

}  // namespace

Verdict check_tokenizer(const Case& c) {
  Verdict verdict;
  const auto tokenizer = tokenizer_of(c);
  const std::int64_t max_length = c.config.at("max_length");
  std::ifstream lines(c.folder / "texts.jsonl");
  std::string line;
  for (int number = 1; std::getline(lines, line); ++number) {
    const auto row = nlohmann::json::parse(line);
    const auto text = row.at("text").get<std::string>();
    const auto want = row.at("ids").get<std::vector<std::int32_t>>();
    const auto got = tokenizer.encode(text, max_length);
    if (got != want) fail(verdict, fmt::format("texts.jsonl line {}: {}", number, first_difference(got, want)));
    ++verdict.compared;
  }
  return verdict;
}

}  // namespace mmkd::parity
