#include "src/text/unicode_tables.h"

#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

namespace mmkd::unicode {
namespace {

using nlohmann::json;
using Mapping = std::map<char32_t, std::u32string>;

constexpr char32_t code_points = 0x110000;

json reference() {
  std::ifstream file(std::string(MMKD_SOURCE_DIR) + "/tests/parity/vocab/normalizer.json");
  return json::parse(file);
}

char32_t hexadecimal(const std::string& text) { return static_cast<char32_t>(std::stoul(text, nullptr, 16)); }

/// From "3400-4dbf", "ad", …: whether each code point is a member.
std::vector<bool> members(const json& ranges) {
  std::vector<bool> result(code_points);
  for (const std::string range : ranges) {
    const auto dash = range.find('-');
    const auto last = hexadecimal(dash == std::string::npos ? range : range.substr(dash + 1));
    for (auto c = hexadecimal(range.substr(0, dash)); c <= last; ++c) result[c] = true;
  }
  return result;
}

Mapping mapping(const json& table) {
  Mapping result;
  for (const auto& [from, to] : table.items()) {
    std::istringstream words(to.get<std::string>());
    for (std::string word; words >> word;) result[hexadecimal(from)] += hexadecimal(word);
  }
  return result;
}

void expect_members(Property property, const std::vector<bool>& expected) {
  for (char32_t c = 0; c < code_points; ++c) {
    ASSERT_EQ((properties(c).flags & property) != 0, expected[c]) << "U+" << std::hex << std::uint32_t{c};
  }
}

void expect_mapping(Property property, std::u32string_view (*lookup)(char32_t), const Mapping& expected) {
  for (char32_t c = 0; c < code_points; ++c) {
    const auto entry = expected.find(c);
    const auto want = entry == expected.end() ? std::u32string() : entry->second;
    ASSERT_EQ((properties(c).flags & property) != 0, !want.empty()) << "U+" << std::hex << std::uint32_t{c};
    ASSERT_EQ(lookup(c), want) << "U+" << std::hex << std::uint32_t{c};
  }
}

TEST(UnicodeTables, AgreeWithTheReferenceOnEveryCodePoint) {
  const auto table = reference();
  expect_members(removed, members(table.at("removed")));
  expect_members(space, members(table.at("space")));
  expect_members(chinese, members(table.at("chinese")));
  expect_members(accent, members(table.at("accent")));
  expect_members(separator, members(table.at("separator")));
  expect_members(punctuation, members(table.at("punctuation")));
  expect_mapping(decomposes, decomposition, mapping(table.at("nfd")));
  expect_mapping(lowers, lower_case, mapping(table.at("lower")));
}

TEST(UnicodeTables, KnowCombiningClasses) {
  EXPECT_EQ(properties(U'a').combining_class, 0);
  EXPECT_EQ(properties(0x0301).combining_class, 230);   // acute
  EXPECT_EQ(properties(0x0327).combining_class, 202);   // cedilla
  EXPECT_EQ(properties(0x0334).combining_class, 1);     // overlay
  EXPECT_EQ(properties(0x05B0).combining_class, 10);    // Hebrew sheva
  EXPECT_EQ(properties(0x302E).combining_class, 224);   // Hangul tone mark
  EXPECT_EQ(properties(0x1D165).combining_class, 216);  // musical stem
  EXPECT_EQ(properties(0x10FFFF).combining_class, 0);
}

}  // namespace
}  // namespace mmkd::unicode
