#include "src/config/yaml_document.h"

#include <gtest/gtest.h>

#include <string>

namespace mmkd::config_detail {
namespace {

struct Parsed {
  Node root;
  std::vector<Problem> problems;
};

Parsed parse(const std::string& text, const YamlLimits& limits = {}) {
  Parsed parsed;
  parsed.root = parse_yaml(text, 0, parsed.problems, limits);
  return parsed;
}

std::string first_problem(const std::string& text, const YamlLimits& limits = {}) {
  const auto parsed = parse(text, limits);
  return parsed.problems.empty() ? "" : parsed.problems.front().text;
}

TEST(YamlDocument, KeepsTheOrderAndThePlacesOfKeysAndValues) {
  const auto [root, problems] = parse("b: 1\na:\n  - x\n  - [y, z]\n");
  ASSERT_TRUE(problems.empty());
  ASSERT_EQ(root.entries.size(), 2U);
  EXPECT_EQ(root.entries[0].key, "b");
  EXPECT_EQ(root.entries[0].value.text, "1");
  EXPECT_EQ(root.entries[0].value.place.column, 4);
  const MapEntry& list = root.entries[1];
  EXPECT_EQ(list.place.line, 2);
  ASSERT_EQ(list.value.items.size(), 2U);
  EXPECT_EQ(list.value.items[0].place.line, 3);
  EXPECT_EQ(list.value.items[0].place.column, 5);
  EXPECT_EQ(list.value.items[1].items[1].text, "z");
}

TEST(YamlDocument, OfEmptyTextIsNull) {
  for (const auto* text : {"", "\n", "# only a comment\n", "---\n", "~"}) {
    const auto [root, problems] = parse(text);
    EXPECT_EQ(root.kind, Node::Kind::null) << text;
    EXPECT_TRUE(problems.empty()) << text;
  }
}

TEST(YamlDocument, TellsNullFromQuotedText) {
  const auto root = parse("a: null\nb: 'null'\nc:\nd: ~\ne: ''\n").root;
  EXPECT_EQ(root.find("a")->kind, Node::Kind::null);
  EXPECT_EQ(root.find("b")->text, "null");
  EXPECT_EQ(root.find("c")->kind, Node::Kind::null);
  EXPECT_EQ(root.find("d")->kind, Node::Kind::null);
  EXPECT_EQ(root.find("e")->kind, Node::Kind::scalar);
}

TEST(YamlDocument, ReportsEveryDuplicateKeyAndKeepsTheFirst) {
  const auto [root, problems] = parse("a: 1\nb: {x: 1, x: 2}\na: 2\n");
  ASSERT_EQ(problems.size(), 2U);
  EXPECT_EQ(problems[0].text, "x: duplicate key, found before at line 2");
  EXPECT_EQ(problems[1].text, "a: duplicate key, found before at line 1");
  EXPECT_EQ(problems[1].place.line, 3);
  EXPECT_EQ(root.find("a")->text, "1");
}

TEST(YamlDocument, ReportsKeysThatAreNoText) {
  EXPECT_EQ(first_problem("[1, 2]: x\n"), "expected a key, found a list");
  EXPECT_EQ(first_problem("? {a: b}\n: x\n"), "expected a key, found a map");
  EXPECT_EQ(first_problem("~: x\n"), "expected a key, found nothing");
  EXPECT_EQ(first_problem("? " + std::string(5000, 'k') + "\n: x\n"),
            "expected a key, found \"" + std::string(60, 'k') + "…\" (5000 bytes)");
}

TEST(YamlDocument, ReportsWhereTextIsNoYaml) {
  const auto [root, problems] = parse("a: 1\nb: [1, 2\nc: 3\n");
  ASSERT_EQ(problems.size(), 1U);
  EXPECT_EQ(problems[0].text.substr(0, 16), "not valid YAML: ");
  EXPECT_GE(problems[0].place.line, 2);
  EXPECT_EQ(root.kind, Node::Kind::null);
}

TEST(YamlDocument, RefusesASecondDocument) {
  EXPECT_EQ(first_problem("a: 1\n---\nb: 2\n"), "a second document begins; a configuration is one document");
}

TEST(YamlDocument, AcceptsDocumentMarkersAroundOneDocument) { EXPECT_EQ(first_problem("---\na: 1\n...\n"), ""); }

TEST(YamlDocument, RefusesTagsThatAreNotYamlsOwn) {
  EXPECT_EQ(first_problem("a: !!python/object:os.system x\n"), "");
  EXPECT_EQ(first_problem("a: !!int 3\n"), "");
  EXPECT_EQ(first_problem("a: !mine 3\n"), "the tag !mine has no meaning in a configuration");
  EXPECT_EQ(first_problem("a: !mine {b: 3}\n"), "the tag !mine has no meaning in a configuration");
}

TEST(YamlDocument, RefusesBytesThatAreNotText) {
  EXPECT_EQ(first_problem(std::string("a: b\0c", 6)), "control character 0x00: not a text file?");
  EXPECT_EQ(first_problem("a: \x1b[0m"), "control character 0x1B: not a text file?");
  for (const auto* bad :
       {"\x80", "\xC0\x80", "\xE0\x80\x80", "\xED\xA0\x80", "\xF4\x90\x80\x80", "\xF0\x9F\x98", "\xFF"})
    EXPECT_NE(first_problem(std::string("a: ") + bad), "") << bad;
  EXPECT_EQ(first_problem("a: ä € 😀\n"), "");
}

TEST(YamlDocument, CountsColumnsInCharactersWhereABadByteStands) {
  const auto problems = parse("a: 1\nb: äö\xFF\n").problems;
  ASSERT_EQ(problems.size(), 1U);
  EXPECT_EQ(problems[0].place.line, 2);
  EXPECT_EQ(problems[0].place.column, 6);
}

TEST(YamlDocument, ExpandsAliasesAndMergeKeys) {
  const auto [root, problems] = parse("base: &b {x: 1, y: 2}\nsame: *b\nmore: {<<: *b, y: 3, z: 4}\n");
  ASSERT_TRUE(problems.empty());
  EXPECT_EQ(root.find("same")->find("y")->text, "2");
  const Node& more = *root.find("more");
  EXPECT_EQ(more.entries.size(), 3U);
  EXPECT_EQ(more.find("x")->text, "1");
  EXPECT_EQ(more.find("y")->text, "3");
}

TEST(YamlDocument, MergesSeveralMapsTheFirstWinning) {
  const auto root = parse("a: &a {x: 1}\nb: &b {x: 2, y: 2}\nc: {<<: [*a, *b]}\n").root;
  EXPECT_EQ(root.find("c")->find("x")->text, "1");
  EXPECT_EQ(root.find("c")->find("y")->text, "2");
}

TEST(YamlDocument, RefusesToMergeWhatIsNoMap) {
  EXPECT_EQ(first_problem("a: {<<: 3}\n"), "<<: expected a map to merge, found \"3\"");
}

TEST(YamlDocument, RefusesAnAliasOfWhatItStandsIn) {
  EXPECT_EQ(first_problem("a: &a [1, *a]\n"), "an alias cannot stand inside the value it refers to");
}

TEST(YamlDocument, ReportsAnUnknownAlias) { EXPECT_NE(first_problem("a: *b\n"), ""); }

TEST(YamlDocument, BoundsAliasesThatMultiply) {
  std::string text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 12; ++i) {
    const auto last = "*a" + std::to_string(i - 1);
    text += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [" + last;
    for (int k = 1; k < 10; ++k) text += ", " + last;
    text += "]\n";
  }
  EXPECT_EQ(first_problem(text), "more than 10000 values (aliases expanded); a configuration has some hundred");
}

TEST(YamlDocument, BoundsRepeatedAliasesOfALongText) {
  std::string text = "a: &a " + std::string(500'000, 'x') + "\nb: [*a, *a, *a]\n";
  EXPECT_EQ(first_problem(text), "more than 10000 values (aliases expanded); a configuration has some hundred");
}

TEST(YamlDocument, BoundsTheDepthThatAliasesAddUpTo) {
  std::string text = "a0: &a0 [x]\n";
  for (int i = 1; i < 40; ++i)
    text += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [*a" + std::to_string(i - 1) + "]\n";
  EXPECT_EQ(first_problem(text), "nested deeper than 32 levels; a configuration has four");
}

TEST(YamlDocument, BoundsTheDepthOfEveryKindOfNesting) {
  const std::string expected = "nested deeper than 32 levels; a configuration has four";
  std::string blocks, keys, compact;
  for (int i = 0; i < 400; ++i) {
    blocks += std::string(static_cast<std::size_t>(i), ' ') + "a:\n";
    keys += "? ";
    compact += "- ";
  }
  EXPECT_EQ(first_problem(std::string(100'000, '[')), expected);
  EXPECT_EQ(first_problem(std::string(10'000, '{')), expected);
  EXPECT_EQ(first_problem(blocks + std::string(401, ' ') + "x"), expected);
  EXPECT_EQ(first_problem(keys), expected);
  EXPECT_EQ(first_problem(compact + "x"), expected);
}

TEST(YamlDocument, AcceptsTheDeepestNestingAllowed) {
  EXPECT_EQ(first_problem(std::string(32, '[') + std::string(32, ']')), "");
  EXPECT_NE(first_problem(std::string(33, '[') + std::string(33, ']')), "");
}

TEST(YamlDocument, BoundsTheSizeOfTheText) {
  EXPECT_EQ(first_problem(std::string((1 << 20) + 1, ' ')), "1048577 bytes; a configuration has at most 1048576");
}

TEST(Utf8Prefix, CutsNoCharacter) {
  EXPECT_EQ(utf8_prefix("aäb", 1), "a");
  EXPECT_EQ(utf8_prefix("aäb", 2), "a");
  EXPECT_EQ(utf8_prefix("aäb", 3), "aä");
  EXPECT_EQ(utf8_prefix("ab", 10), "ab");
}

}  // namespace
}  // namespace mmkd::config_detail
