#include "mmkd/text/tokenizer.h"

#include <gtest/gtest.h>

#include <fstream>
#include <thread>

#include "mmkd/base/error.h"
#include "tests/support/temp_folder.h"

namespace mmkd {
namespace {

using Ids = std::vector<std::int32_t>;

constexpr std::int32_t pad = 0, unk = 1, cls = 2, sep = 3, mask = 4;
constexpr std::int64_t long_enough = 512;

/// The five special tokens with ids 0 to 4, then `tokens` from 5 on.
WordPieceTokenizer tokenizer_of(const std::vector<std::string>& tokens, const WordPieceSettings& settings = {}) {
  const test::TempFolder folder;
  std::ofstream file(folder / "vocab.txt", std::ios::binary);
  file << "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n";
  for (const auto& token : tokens) file << token << '\n';
  file.close();
  return WordPieceTokenizer::from_file(folder / "vocab.txt", settings);
}

/// The ids between [CLS] and [SEP].
Ids inner(const WordPieceTokenizer& tokenizer, std::string_view text) {
  auto ids = tokenizer.encode(text, long_enough);
  EXPECT_GE(ids.size(), 2U);
  EXPECT_EQ(ids.front(), cls);
  EXPECT_EQ(ids.back(), sep);
  return {ids.begin() + 1, ids.end() - 1};
}

std::string repeated(std::string_view text, int count) {
  std::string all;
  for (int i = 0; i < count; ++i) all += text;
  return all;
}

constexpr WordPieceSettings as_written{.do_lower_case = false, .strip_accents = false, .tokenize_chinese_chars = true};
constexpr WordPieceSettings keep_accents{.do_lower_case = true, .strip_accents = false, .tokenize_chinese_chars = true};

TEST(WordPiece, GivesOnlyTheFrameForTextWithoutWords) {
  const auto tokenizer = tokenizer_of({});
  for (const std::string_view text : {"", " \t\r\n", "\xC2\xA0\xE3\x80\x80", "\xE2\x80\x8B", "\x01\x7F"}) {
    EXPECT_EQ(tokenizer.encode(text, long_enough), (Ids{cls, sep}));
  }
}

TEST(WordPiece, TakesTheLongestPieceFirst) {
  const auto tokenizer = tokenizer_of({"un", "una", "##ff", "##able", "##f", "a"});
  EXPECT_EQ(inner(tokenizer, "unaffable"), (Ids{6, 7, 8}));
}

TEST(WordPiece, MakesAWordWithAnUnmatchedPartOneUnknown) {
  const auto tokenizer = tokenizer_of({"un", "##ff", "ok"});
  EXPECT_EQ(inner(tokenizer, "unffx ok xun"), (Ids{unk, 7, unk}));
}

TEST(WordPiece, MatchesContinuationsOnlyBehindAStart) {
  const auto tokenizer = tokenizer_of({"##ing", "ing", "do"});
  EXPECT_EQ(inner(tokenizer, "ing doing dodo"), (Ids{6, 7, 5, unk}));
}

TEST(WordPiece, KnowsNoContinuationWhereTheVocabularyHasNone) {
  EXPECT_EQ(inner(tokenizer_of({"do"}), "do dodo"), (Ids{5, unk}));
}

TEST(WordPiece, SplitsPunctuationAndAsciiSymbolsFromWords) {
  const auto tokenizer = tokenizer_of({"a", "b", "$", "-", "\xE2\x80\x94"});
  EXPECT_EQ(inner(tokenizer,
                  "a-b$$a\xE2\x80\x94"
                  "b"),
            (Ids{5, 8, 6, 7, 7, 5, 9, 6}));
}

TEST(WordPiece, SplitsAtEveryKindOfWhiteSpace) {
  const auto tokenizer = tokenizer_of({"a"});
  EXPECT_EQ(inner(tokenizer,
                  "a\ta\r\na\xC2\xA0"
                  "a\xE2\x80\xA8"
                  "a"),
            (Ids{5, 5, 5, 5, 5}));
}

TEST(WordPiece, DeletesControlsFormFeedsAndFormatCharactersInsideWords) {
  const auto tokenizer = tokenizer_of({"ab"});
  for (const std::string_view text : {"a\x0B"
                                      "b",
                                      "a\x0C"
                                      "b",
                                      "a\xC2\xAD"
                                      "b",
                                      "a\xE2\x80\x8B"
                                      "b",
                                      "a\xEE\x80\x80"
                                      "b",
                                      "a\xEF\xBF\xBD"
                                      "b"}) {
    EXPECT_EQ(inner(tokenizer, text), Ids{5});
  }
  EXPECT_EQ(inner(tokenizer, std::string_view("a\0b", 3)), Ids{5});
}

TEST(WordPiece, DeletesInvalidUtf8) {
  const auto tokenizer = tokenizer_of({"ab"});
  for (const std::string_view text : {"a\x80"
                                      "b",  // a lone continuation byte
                                      "a\xC0\xAF"
                                      "b",  // overlong
                                      "a\xED\xA0\x80"
                                      "b",  // a surrogate
                                      "a\xF4\x90\x80\x80"
                                      "b",  // above U+10FFFF
                                      "a\xFF\xFE"
                                      "b",
                                      "a\xE2\x82"
                                      "b",                  // cut short
                                      "ab\xF0\x9F\x98"}) {  // cut short by the end
    EXPECT_EQ(inner(tokenizer, text), Ids{5}) << text;
  }
}

TEST(WordPiece, LowersAndStripsAccentsInBothForms) {
  const auto tokenizer = tokenizer_of({"angstrom"});
  EXPECT_EQ(inner(tokenizer, "\xC3\x85ngstr\xC3\xB6m A\xCC\x8ANGSTRO\xCC\x88M"), (Ids{5, 5}));
}

TEST(WordPiece, AppliesNoNormalizationFormWhereAccentsStay) {
  const auto tokenizer = tokenizer_of({"\xC3\xA9", "e\xCC\x81"}, keep_accents);
  EXPECT_EQ(inner(tokenizer, "\xC3\x89 e\xCC\x81"), (Ids{5, 6}));
}

TEST(WordPiece, LowersDottedCapitalIByWhetherAccentsAreStripped) {
  constexpr std::string_view dotted_i = "\xC4\xB0";
  EXPECT_EQ(inner(tokenizer_of({"i", "i\xCC\x87"}), dotted_i), Ids{5});
  EXPECT_EQ(inner(tokenizer_of({"i", "i\xCC\x87"}, keep_accents), dotted_i), Ids{6});
}

TEST(WordPiece, KeepsSharpSAndKnowsNoFinalSigma) {
  const auto tokenizer =
      tokenizer_of({"stra\xC3\x9F"
                    "e",
                    "\xCF\x83\xCE\xB1\xCF\x83"});
  EXPECT_EQ(inner(tokenizer,
                  "STRA\xC3\x9F"
                  "E \xCE\xA3\xCE\x91\xCE\xA3"),
            (Ids{5, 6}));
}

TEST(WordPiece, DecomposesHangulOnlyWhereAccentsAreStripped) {
  const std::vector<std::string> tokens = {"\xED\x95\x9C", "\xE1\x84\x92", "##\xE1\x85\xA1", "##\xE1\x86\xAB"};
  EXPECT_EQ(inner(tokenizer_of(tokens), "\xED\x95\x9C \xED\x95\x98"), (Ids{6, 7, 8, 6, 7}));
  EXPECT_EQ(inner(tokenizer_of(tokens, keep_accents), "\xED\x95\x9C"), Ids{5});
}

TEST(WordPiece, PutsMarksThatAreNoAccentsIntoCanonicalOrder) {
  // U+302E (class 224) and U+1D165 (class 216) are spacing marks, which stay; NFD orders them by class. U+034F is an
  // accent of class 0.
  const std::string low = "\xF0\x9D\x85\xA5", high = "\xE3\x80\xAE", accent = "\xCC\x81", starter = "\xCD\x8F";
  const auto tokenizer = tokenizer_of({"a" + low + high, "a" + high + low});
  EXPECT_EQ(inner(tokenizer, "a" + high + low), Ids{5});
  EXPECT_EQ(inner(tokenizer, "a" + high + accent + low), Ids{5}) << "an accent between them vanishes";
  EXPECT_EQ(inner(tokenizer, "a" + high + starter + low), Ids{6})
      << "a starter keeps them apart, though it vanishes too";
  EXPECT_EQ(inner(tokenizer_of({"a" + high + low}, keep_accents), "a" + high + low), Ids{5});
}

TEST(WordPiece, IsolatesChineseCharactersWhereSet) {
  const std::vector<std::string> tokens = {"\xE4\xB8\xAD", "a", "a\xE4\xB8\xAD", "##\xE4\xB8\xAD"};
  EXPECT_EQ(inner(tokenizer_of(tokens),
                  "a\xE4\xB8\xAD\xE4\xB8\xAD"
                  "a"),
            (Ids{6, 5, 5, 6}));
  EXPECT_EQ(inner(tokenizer_of(tokens, {.tokenize_chinese_chars = false}), "a\xE4\xB8\xAD\xE4\xB8\xAD"), (Ids{7, 8}));
}

TEST(WordPiece, FollowsTheReferenceInItsChineseRanges) {
  // U+2B820 belongs to extension E, but the reference's range starts at U+2B920.
  const auto tokenizer = tokenizer_of({"\xF0\xAB\xA0\xA0\xF0\xAB\xA0\xA0", "\xF0\xAB\xA4\xA0"});
  EXPECT_EQ(inner(tokenizer, "\xF0\xAB\xA0\xA0\xF0\xAB\xA0\xA0 \xF0\xAB\xA4\xA0\xF0\xAB\xA4\xA0"), (Ids{5, 6, 6}));
}

TEST(WordPiece, CutsSpecialTokensOutOfWords) {
  const auto tokenizer = tokenizer_of({"a", "b", "##b", "[", "]", "sep"});
  EXPECT_EQ(inner(tokenizer, "a[SEP]b [MASK][PAD] [UNK]"), (Ids{5, sep, 6, mask, pad, unk}));
  EXPECT_EQ(inner(tokenizer, "[[SEP]] [sep]"), (Ids{8, sep, 9, 8, 10, 9})) << "only as written";
  EXPECT_EQ(inner(tokenizer, "[SEP"), (Ids{8, 10}));
  EXPECT_EQ(inner(tokenizer, "[SE\x80P]"), (Ids{8, 10, 9})) << "matched before invalid bytes are deleted";
}

TEST(WordPiece, AcceptsWordsOfAHundredCodePointsAndNoMore) {
  const auto tokenizer = tokenizer_of({"x", "##x", "\xF0\x90\x90\x80", "##\xF0\x90\x90\x80"}, as_written);
  Ids hundred(100, 6);
  hundred.front() = 5;
  EXPECT_EQ(inner(tokenizer, repeated("x", 100)), hundred);
  EXPECT_EQ(inner(tokenizer, repeated("x", 101)), Ids{unk});
  Ids wide(100, 8);
  wide.front() = 7;
  EXPECT_EQ(inner(tokenizer, repeated("\xF0\x90\x90\x80", 100)), wide) << "code points count, not bytes";
  EXPECT_EQ(inner(tokenizer, repeated("\xF0\x90\x90\x80", 101) + " x"), (Ids{unk, 5}));
}

TEST(WordPiece, CountsCodePointsAfterNormalization) {
  const auto tokenizer = tokenizer_of({"e", "##e"});
  EXPECT_EQ(inner(tokenizer, repeated("e\xCC\x81", 100)).size(), 100U) << "200 code points, 100 of them accents";
}

TEST(WordPiece, KeepsUnassignedCodePoints) { EXPECT_EQ(inner(tokenizer_of({"a\xCD\xB8"}), "A\xCD\xB8"), Ids{5}); }

TEST(WordPiece, TruncatesToMaxLengthWithBothSpecialTokens) {
  const auto tokenizer = tokenizer_of({"a", "##b"});
  EXPECT_EQ(tokenizer.encode("abbb a", 2), (Ids{cls, sep}));
  EXPECT_EQ(tokenizer.encode("abbb a", 4), (Ids{cls, 5, 6, sep})) << "inside a word";
  EXPECT_EQ(tokenizer.encode("abbb a", 7), (Ids{cls, 5, 6, 6, 6, 5, sep}));
  EXPECT_EQ(tokenizer.encode("abbb a", 1'000'000'000'000), (Ids{cls, 5, 6, 6, 6, 5, sep}));
}

TEST(WordPiece, TruncatesWhatALongerLimitGives) {
  const auto tokenizer = tokenizer_of({"a", "##b", "-"});
  const std::string text = "ab-abx a [MASK]abb " + repeated("a", 120) + " -a";
  const auto full = tokenizer.encode(text, long_enough);
  for (std::size_t length = 2; length < full.size(); ++length) {
    Ids expected(full.begin(), full.begin() + static_cast<std::ptrdiff_t>(length));
    expected.back() = sep;
    EXPECT_EQ(tokenizer.encode(text, static_cast<std::int64_t>(length)), expected);
  }
}

TEST(WordPiece, RejectsAMaxLengthWithoutRoomForTheFrame) {
  const auto tokenizer = tokenizer_of({"a"});
  for (const std::int64_t length : {1, 0, -5}) EXPECT_THROW(tokenizer.encode("a", length), Error);
}

TEST(WordPiece, EncodesAlikeFromManyThreads) {
  const auto tokenizer = tokenizer_of({"a", "##b", "\xED\x95\x9C"});
  const std::string text = repeated("ab [MASK] \xED\x95\x9C \xC3\x81\xCC\x81, ", 50);
  const auto expected = tokenizer.encode(text, long_enough);
  std::vector<int> different(4, 0);
  std::vector<std::thread> threads;
  for (auto& count : different) {
    threads.emplace_back([&] {
      for (int i = 0; i < 200; ++i) count += tokenizer.encode(text, long_enough) != expected;
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(different, std::vector<int>(4, 0));
}

TEST(WordPiece, TellsItsSizePadAndSettings) {
  const auto tokenizer = tokenizer_of({"a", "b"}, keep_accents);
  EXPECT_EQ(tokenizer.vocab_size(), 7);
  EXPECT_EQ(tokenizer.pad_id(), pad);
  EXPECT_TRUE(tokenizer.settings().do_lower_case);
  EXPECT_FALSE(tokenizer.settings().strip_accents);
}

TEST(TokenizerDigest, ChangesWithEverySettingAndWithTheVocabulary) {
  const auto digest = [](const std::vector<std::string>& tokens, const WordPieceSettings& settings) {
    return tokenizer_of(tokens, settings).digest();
  };
  const std::vector<std::string> digests = {
      digest({"a", "b"}, {true, true, true}),  digest({"a", "b"}, {false, true, true}),
      digest({"a", "b"}, {true, false, true}), digest({"a", "b"}, {true, true, false}),
      digest({"b", "a"}, {true, true, true}),  digest({"a", "bb"}, {true, true, true}),
  };
  for (std::size_t i = 0; i < digests.size(); ++i) {
    EXPECT_EQ(digests[i].size(), 64U);
    for (std::size_t j = 0; j < i; ++j) EXPECT_NE(digests[i], digests[j]) << i << " and " << j;
  }
  EXPECT_EQ(digests[0], digest({"a", "b"}, {true, true, true}));
}

}  // namespace
}  // namespace mmkd
