#include "src/text/piece_trie.h"

#include <gtest/gtest.h>

#include <fstream>
#include <string>
#include <unordered_map>

namespace mmkd {
namespace {

constexpr std::size_t no_limit = 1000;

TEST(PieceTrie, FindsTheLongestPrefixThatIsAPiece) {
  const std::vector<Token> pieces = {{"a", 3}, {"abc", 0}, {"b", 7}, {"\xFF\x01", 9}};
  const PieceTrie trie(pieces, no_limit);
  const auto match = [&](std::string_view text) {
    const auto found = trie.longest_match(PieceTrie::root, text);
    return std::pair(found.id, found.size);
  };
  EXPECT_EQ(match("abcd"), (std::pair(0, std::size_t{3})));
  EXPECT_EQ(match("abd"), (std::pair(3, std::size_t{1})));
  EXPECT_EQ(match("b"), (std::pair(7, std::size_t{1})));
  EXPECT_EQ(match("\xFF\x01"), (std::pair(9, std::size_t{2})));
  EXPECT_EQ(match("\xFF"), (std::pair(-1, std::size_t{0})));
  EXPECT_EQ(match(std::string_view("\0a", 2)), (std::pair(-1, std::size_t{0})));
  EXPECT_EQ(match(""), (std::pair(-1, std::size_t{0})));
}

TEST(PieceTrie, MatchesNothingWithoutPieces) {
  const PieceTrie trie({}, no_limit);
  EXPECT_EQ(trie.walk("##"), PieceTrie::dead);
  EXPECT_EQ(trie.longest_match(PieceTrie::root, std::string_view("\0\0", 2)).size, 0U);
  EXPECT_EQ(trie.longest_match(PieceTrie::dead, "a").size, 0U);
}

TEST(PieceTrie, LeavesOutPiecesThatAreTooLong) {
  const std::vector<Token> pieces = {{"abc", 0}, {"ab", 1}};
  const PieceTrie trie(pieces, 2);
  EXPECT_EQ(trie.longest_match(PieceTrie::root, "abc").id, 1);
}

TEST(PieceTrie, AgreesWithAHashMapOverARealVocabulary) {
  std::ifstream file(std::string(MMKD_SOURCE_DIR) + "/tests/parity/vocab/uncased.txt");
  std::vector<Token> pieces;
  std::unordered_map<std::string, std::int32_t> ids;
  for (std::string line; std::getline(file, line);) {
    const auto id = static_cast<std::int32_t>(pieces.size());
    pieces.push_back({line, id});
    ids.emplace(line, id);
  }
  ASSERT_GT(pieces.size(), 30000U);
  const PieceTrie trie(pieces, no_limit);
  const auto expected = [&](const std::string& text) {
    for (auto size = text.size(); size > 0; --size) {
      if (const auto found = ids.find(text.substr(0, size)); found != ids.end()) return std::pair(found->second, size);
    }
    return std::pair(-1, std::size_t{0});
  };
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    const auto text = pieces[i].text + pieces[(i * 7919 + 13) % pieces.size()].text;
    const auto found = trie.longest_match(PieceTrie::root, text);
    ASSERT_EQ(std::pair(found.id, found.size), expected(text)) << text;
    const auto tail = trie.longest_match(trie.walk("##"), pieces[i].text);
    const auto behind_prefix = expected("##" + pieces[i].text);
    const bool only_prefix = behind_prefix.second <= 2;
    ASSERT_EQ(tail.size, only_prefix ? 0 : behind_prefix.second - 2) << pieces[i].text;
    ASSERT_EQ(tail.id, only_prefix ? -1 : behind_prefix.first) << pieces[i].text;
  }
}

}  // namespace
}  // namespace mmkd
