#include "src/text/vocabulary.h"

#include <gtest/gtest.h>

#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>

#include "mmkd/base/error.h"
#include "mmkd/text/tokenizer.h"
#include "tests/support/temp_folder.h"

namespace mmkd {
namespace {

using nlohmann::json;

const std::string special = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n";

/// What is thrown for these bytes; empty if nothing is.
std::string error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& e) {
    return e.what();
  }
  return {};
}

std::string vocab_error(const std::string& bytes) {
  return error_of([&] { parse_vocab_txt(bytes, "vocab.txt"); });
}

std::string json_error(const std::string& bytes) {
  return error_of([&] { parse_tokenizer_json(bytes, "tokenizer.json"); });
}

void expect_contains(const std::string& message, const std::vector<std::string>& parts) {
  for (const auto& part : parts) EXPECT_NE(message.find(part), std::string::npos) << message << "\nlacks: " << part;
}

json added_token(const std::string& content, int id) {
  return {{"id", id},        {"content", content},  {"single_word", false}, {"lstrip", false},
          {"rstrip", false}, {"normalized", false}, {"special", true}};
}

/// As Hugging Face tokenizers saves the vocabulary [PAD] [UNK] [CLS] [SEP] [MASK] the ##s.
json tokenizer_json() {
  return {
      {"version", "1.0"},
      {"truncation", nullptr},
      {"padding", nullptr},
      {"added_tokens",
       {added_token("[PAD]", 0), added_token("[UNK]", 1), added_token("[CLS]", 2), added_token("[SEP]", 3),
        added_token("[MASK]", 4)}},
      {"normalizer",
       {{"type", "BertNormalizer"},
        {"clean_text", true},
        {"handle_chinese_chars", true},
        {"strip_accents", nullptr},
        {"lowercase", true}}},
      {"pre_tokenizer", {{"type", "BertPreTokenizer"}}},
      {"model",
       {{"type", "WordPiece"},
        {"unk_token", "[UNK]"},
        {"continuing_subword_prefix", "##"},
        {"max_input_chars_per_word", 100},
        {"vocab", {{"[PAD]", 0}, {"[UNK]", 1}, {"[CLS]", 2}, {"[SEP]", 3}, {"[MASK]", 4}, {"the", 5}, {"##s", 6}}}}}};
}

TEST(VocabTxt, NumbersTheLinesFromZero) {
  const auto vocabulary = parse_vocab_txt(special + "the\n##s\n", "vocab.txt");
  ASSERT_EQ(vocabulary.pieces.size(), 7U);
  EXPECT_EQ(vocabulary.pieces[6].text, "##s");
  EXPECT_EQ(vocabulary.pieces[6].id, 6);
  EXPECT_EQ(vocabulary.size, 7);
  EXPECT_EQ(vocabulary.pad_id, 0);
  EXPECT_EQ(vocabulary.unk_id, 1);
  EXPECT_EQ(vocabulary.cls_id, 2);
  EXPECT_EQ(vocabulary.sep_id, 3);
  EXPECT_EQ(vocabulary.literals.size(), 5U);
}

TEST(VocabTxt, FindsTheSpecialTokensWhereverTheyAre) {
  const auto vocabulary = parse_vocab_txt("the\n[SEP]\n[CLS]\n[PAD]\n[UNK]\n", "vocab.txt");
  EXPECT_EQ(vocabulary.sep_id, 1);
  EXPECT_EQ(vocabulary.cls_id, 2);
  EXPECT_EQ(vocabulary.pad_id, 3);
  EXPECT_EQ(vocabulary.unk_id, 4);
  EXPECT_EQ(vocabulary.literals.size(), 4U) << "no [MASK] is no error";
}

TEST(VocabTxt, NeedsNoLineEndAtTheEnd) { EXPECT_EQ(parse_vocab_txt(special + "the", "vocab.txt").size, 6); }

TEST(VocabTxt, SplitsAtLineFeedsOnly) {
  const auto vocabulary = parse_vocab_txt(special + "a\xE2\x80\xA8" + "b\nc\rd\n\xC2\x85\n", "vocab.txt");
  ASSERT_EQ(vocabulary.size, 8);
  EXPECT_EQ(vocabulary.pieces[5].text,
            "a\xE2\x80\xA8"
            "b");
  EXPECT_EQ(vocabulary.pieces[6].text, "c\rd");
}

TEST(VocabTxt, TakesWindowsLineEndsForLineEnds) {
  const auto vocabulary = parse_vocab_txt("[PAD]\r\n[UNK]\r\n[CLS]\r\n[SEP]\r\nthe\r\n", "vocab.txt");
  EXPECT_EQ(vocabulary.pieces[4].text, "the");
  EXPECT_EQ(vocabulary.size, 5);
}

TEST(VocabTxt, ReportsWhatIsMalformedByLine) {
  expect_contains(vocab_error(special + "the\n\nfox\n"), {"vocab.txt", "line 7", "empty"});
  expect_contains(vocab_error(special + "the\nfox\nthe\n"), {"line 8", "'the'", "twice", "5 and 7"});
  expect_contains(vocab_error(special + "th\xFF"
                                        "e\n"),
                  {"line 6", "UTF-8"});
  expect_contains(vocab_error("[PAD]\n[CLS]\n"), {"vocab.txt", "[UNK] [SEP]"});
  expect_contains(vocab_error(""), {"[UNK] [CLS] [SEP] [PAD]"});
  expect_contains(vocab_error("\xEF\xBB\xBF" + special), {"byte order mark"});
}

TEST(TokenizerJson, HoldsTheSameAsTheVocabTxt) {
  const auto from_json = parse_tokenizer_json(tokenizer_json().dump(), "tokenizer.json");
  const auto from_text = parse_vocab_txt(special + "the\n##s\n", "vocab.txt");
  ASSERT_EQ(from_json.pieces.size(), from_text.pieces.size());
  for (std::size_t i = 0; i < from_json.pieces.size(); ++i) {
    EXPECT_EQ(from_json.pieces[i].text, from_text.pieces[i].text);
    EXPECT_EQ(from_json.pieces[i].id, from_text.pieces[i].id);
  }
  EXPECT_EQ(from_json.literals.size(), from_text.literals.size());
  EXPECT_EQ(from_json.size, from_text.size);
}

TEST(TokenizerJson, GivesTheSameDigestAndIdsAsTheVocabTxt) {
  const test::TempFolder folder;
  std::ofstream(folder / "vocab.txt") << special << "the\n##s\n";
  std::ofstream(folder / "tokenizer.json") << tokenizer_json();
  const auto a = WordPieceTokenizer::from_file(folder / "vocab.txt", {});
  const auto b = WordPieceTokenizer::from_file(folder / "tokenizer.json", {});
  EXPECT_EQ(a.digest(), b.digest());
  EXPECT_EQ(b.encode("Thes [MASK]", 16), (std::vector<std::int32_t>{2, 5, 6, 4, 3}));
}

TEST(TokenizerJson, CutsAddedTokensOutOfTheRawTextOnly) {
  auto document = tokenizer_json();
  document["added_tokens"].push_back(added_token("<th", 7));
  document["added_tokens"].push_back(added_token("<the>", 8));
  const test::TempFolder folder;
  std::ofstream(folder / "tokenizer.json") << document;
  const auto tokenizer = WordPieceTokenizer::from_file(folder / "tokenizer.json", {});
  EXPECT_EQ(tokenizer.vocab_size(), 9);
  EXPECT_EQ(tokenizer.encode("the<the>s <th <THE>", 16), (std::vector<std::int32_t>{2, 5, 8, 1, 7, 1, 5, 1, 3}))
      << "the longest first, as written only";
}

TEST(TokenizerJson, SaysThatOnlyWordPieceIsSupported) {
  auto document = tokenizer_json();
  document["model"]["type"] = "BPE";
  expect_contains(json_error(document.dump()), {"tokenizer.json", "BPE", "only WordPiece"});
  document["model"]["type"] = "Unigram";
  expect_contains(json_error(document.dump()), {"Unigram", "only WordPiece"});
  document["model"].erase("type");
  document["model"]["merges"] = json::array({"t h"});
  expect_contains(json_error(document.dump()), {"BPE", "only WordPiece"});
  expect_contains(json_error(R"({"the": 0})"), {"no 'model'", "only WordPiece"});
}

TEST(TokenizerJson, AcceptsAModelWithoutType) {
  auto document = tokenizer_json();
  document["model"].erase("type");
  EXPECT_EQ(parse_tokenizer_json(document.dump(), "tokenizer.json").size, 7);
}

TEST(TokenizerJson, RejectsWhatBertsTokenizerDoesNotHave) {
  const std::vector<std::pair<std::string, json>> foreign = {
      {"/model/unk_token", "<unk>"},
      {"/model/continuing_subword_prefix", "@@"},
      {"/model/max_input_chars_per_word", 200},
      {"/normalizer/type", "NFC"},
      {"/normalizer/clean_text", false},
      {"/pre_tokenizer/type", "Whitespace"},
      {"/added_tokens/0/normalized", true},
      {"/added_tokens/0/single_word", true},
      {"/added_tokens/0/lstrip", true},
  };
  for (const auto& [place, value] : foreign) {
    auto document = tokenizer_json();
    document[json::json_pointer(place)] = value;
    expect_contains(json_error(document.dump()), {"tokenizer.json", place.substr(place.rfind('/') + 1), value.dump()});
  }
}

TEST(TokenizerJson, ReportsWhatIsMalformed) {
  const std::vector<std::tuple<std::string, json, std::string>> wrong = {
      {"/model", 5, "model is number"},
      {"/model/vocab", json::array(), "model.vocab is array"},
      {"/model/vocab/the", "5", "model.vocab['the']"},
      {"/model/vocab/the", -1, "model.vocab['the']"},
      {"/model/vocab/the", 1.5, "model.vocab['the']"},
      {"/model/vocab/the", 4294967296, "model.vocab['the']"},
      {"/model/vocab/the", 6, "another token"},
      {"/model/type", 3, "model.type is number"},
      {"/normalizer", "x", "normalizer is string"},
      {"/normalizer", nullptr, "no 'normalizer'"},
      {"/added_tokens", 1, "added_tokens is number"},
      {"/added_tokens/0", 1, "added_tokens[0] is number"},
      {"/added_tokens/0/content", "", "added_tokens[0]"},
      {"/added_tokens/0/content", "the", "vocabulary gives it 5"},
      {"/added_tokens/1/content", "[PAD]", "'[PAD]'"},
      {"/added_tokens/0/id", 5, "'[PAD]' has id 5"},
  };
  for (const auto& [place, value, part] : wrong) {
    auto document = tokenizer_json();
    document[json::json_pointer(place)] = value;
    expect_contains(json_error(document.dump()), {"tokenizer.json", part});
  }
}

TEST(TokenizerJson, RejectsATokenThatIsThereTwice) {
  auto text = tokenizer_json().dump();
  const auto at = text.find("\"the\":5");
  ASSERT_NE(at, std::string::npos);
  text.insert(at, "\"the\":7,");
  expect_contains(json_error(text), {"'the'", "twice"});
}

TEST(TokenizerJson, RejectsBrokenJson) {
  const auto text = tokenizer_json().dump();
  expect_contains(json_error(text.substr(0, text.size() / 2)), {"tokenizer.json", "no valid JSON"});
  expect_contains(json_error(""), {"no valid JSON"});
  expect_contains(json_error("[]"), {"array", "expected an object"});
}

TEST(TokenizerFile, MustBeReadable) {
  const test::TempFolder folder;
  const auto path = folder / "vocab.txt";
  expect_contains(error_of([&] { WordPieceTokenizer::from_file(path, {}); }), {path.string()});
  expect_contains(error_of([&] { WordPieceTokenizer::from_file(folder.path(), {}); }), {folder.path().string()});
}

}  // namespace
}  // namespace mmkd
