#include "mmkd/text/tokenizer_files.h"

#include <gtest/gtest.h>

#include <fstream>

#include "mmkd/base/error.h"
#include "mmkd/config/config.h"
#include "tests/support/temp_folder.h"

namespace mmkd {
namespace {

void write(const std::filesystem::path& path, const std::string& text) { std::ofstream(path) << text; }

std::string find_error(const std::filesystem::path& folder) {
  try {
    find_tokenizer_file(folder);
  } catch (const Error& e) {
    return e.what();
  }
  return {};
}

TEST(TokenizerFolder, PrefersVocabTxt) {
  const test::TempFolder folder;
  write(folder / "tokenizer.json", "{}");
  EXPECT_EQ(find_tokenizer_file(folder.path()), folder / "tokenizer.json");
  write(folder / "vocab.txt", "");
  EXPECT_EQ(find_tokenizer_file(folder.path()), folder / "vocab.txt");
}

TEST(TokenizerFolder, NamesTheFilesLookedFor) {
  const test::TempFolder folder;
  const auto message = find_error(folder.path());
  for (const auto& part : {folder.path().string(), std::string("vocab.txt"), std::string("tokenizer.json")}) {
    EXPECT_NE(message.find(part), std::string::npos) << message;
  }
  EXPECT_NE(find_error(folder / "missing").find("no folder"), std::string::npos);
}

TEST(TokenizerFolder, SaysThatOnlyWordPieceIsSupported) {
  const test::TempFolder folder;
  write(folder / "vocab.json", "{}");
  write(folder / "merges.txt", "");
  const auto message = find_error(folder.path());
  EXPECT_NE(message.find("vocab.json"), std::string::npos) << message;
  EXPECT_NE(message.find("only WordPiece"), std::string::npos) << message;
}

TEST(TokenizerSettings, AreUnsetWhereNoFileTellsThem) {
  const test::TempFolder folder;
  const auto settings = read_tokenizer_settings(folder.path());
  EXPECT_FALSE(settings.do_lower_case || settings.strip_accents || settings.tokenize_chinese_chars);
}

TEST(TokenizerSettings, ComeFromTokenizerConfig) {
  const test::TempFolder folder;
  write(folder / "tokenizer_config.json",
        R"({"do_lower_case": false, "strip_accents": null, "model_max_length": 512})");
  const auto settings = read_tokenizer_settings(folder.path());
  EXPECT_EQ(settings.do_lower_case, false);
  EXPECT_EQ(settings.strip_accents, std::nullopt) << "null leaves it open";
  EXPECT_EQ(settings.tokenize_chinese_chars, std::nullopt);
}

TEST(TokenizerSettings, AreCompletedFromTheNormalizerOfTokenizerJson) {
  const test::TempFolder folder;
  write(folder / "tokenizer_config.json", R"({"do_lower_case": false})");
  write(folder / "tokenizer.json",
        R"({"normalizer": {"lowercase": true, "strip_accents": false, "handle_chinese_chars": true}})");
  const auto settings = read_tokenizer_settings(folder.path());
  EXPECT_EQ(settings.do_lower_case, false);
  EXPECT_EQ(settings.strip_accents, false);
  EXPECT_EQ(settings.tokenize_chinese_chars, true);
}

TEST(TokenizerSettings, OfAFileAreThoseOfItsFolder) {
  const test::TempFolder folder;
  write(folder / "tokenizer_config.json", R"({"do_lower_case": false})");
  write(folder / "vocab.txt", "");
  write(folder / "mine.json", R"({"normalizer": {"strip_accents": true}})");
  EXPECT_EQ(read_tokenizer_settings(folder / "vocab.txt").do_lower_case, false);
  EXPECT_EQ(read_tokenizer_settings(folder / "vocab.txt").strip_accents, std::nullopt);
  EXPECT_EQ(read_tokenizer_settings(folder / "mine.json").strip_accents, true);
}

TEST(TokenizerSettings, RejectWhatIsMalformed) {
  for (const auto* text : {R"({"do_lower_case": "yes"})", R"({"do_lower_case": 1})", "[1]", "{", ""}) {
    const test::TempFolder folder;
    write(folder / "tokenizer_config.json", text);
    EXPECT_THROW(read_tokenizer_settings(folder.path()), Error) << text;
  }
}

TEST(TokenizerSettings, OfTheConfigWinOverTheFiles) {
  TokenizerConfig config;
  config.do_lower_case = true;
  const TokenizerFileSettings files{.do_lower_case = false, .strip_accents = false, .tokenize_chinese_chars = false};
  const auto settings = resolve_settings(config, files);
  EXPECT_TRUE(settings.do_lower_case);
  EXPECT_FALSE(settings.strip_accents);
  EXPECT_FALSE(settings.tokenize_chinese_chars);
}

TEST(TokenizerSettings, StripAccentsWithLowerCasingUnlessSet) {
  EXPECT_TRUE(resolve_settings({}, {}).strip_accents);
  TokenizerConfig cased;
  cased.do_lower_case = false;
  EXPECT_FALSE(resolve_settings(cased, {}).strip_accents);
  cased.strip_accents = true;
  EXPECT_TRUE(resolve_settings(cased, {}).strip_accents);
  EXPECT_TRUE(resolve_settings({}, {}).do_lower_case);
  EXPECT_TRUE(resolve_settings({}, {}).tokenize_chinese_chars);
}

}  // namespace
}  // namespace mmkd
