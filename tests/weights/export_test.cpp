#include "mmkd/weights/export.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "mmkd/base/files.h"
#include "mmkd/weights/hf_config.h"
#include "mmkd/weights/load.h"
#include "tests/support/temp_folder.h"
#include "tests/weights/support.h"

namespace mmkd {
namespace {

using test::contains;
using test::message_of;

const std::string kVocabulary = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\n##s\n";

class ExportedTextTower : public ::testing::Test {
 protected:
  ExportedTextTower() { write_file_atomic(folder_ / "vocab.txt", kVocabulary); }
  TextTower tower(const fs::path& tokenizer_file) const {
    TextConfig config;
    config.family = TextFamily::distilbert;
    config.hidden_size = 4;
    config.num_attention_heads = 2;
    return {config,
            entries_,
            read_tokenizer_text(tokenizer_file),
            {.do_lower_case = false, .strip_accents = false, .tokenize_chinese_chars = true},
            256};
  }
  nlohmann::json read_json(const std::string& file) const { return nlohmann::json::parse(read_file(folder_ / file)); }

  test::TempFolder folder_;
  std::vector<nn::WeightEntry> entries_{{"embeddings.word_embeddings.weight", test::counting({8, 4})}};
};

TEST_F(ExportedTextTower, HoldsConfigWeightsVocabularyAndTokenizerSettings) {
  export_text_tower(folder_ / "text", tower(folder_ / "vocab.txt"));
  const auto config = text_config_from_hf(read_json("text/config.json"), "config");
  EXPECT_EQ(config.family, TextFamily::distilbert);
  EXPECT_EQ(config.vocab_size, 8) << "the embedding's rows";
  EXPECT_EQ(read_json("text/config.json").at("pad_token_id"), 0);
  EXPECT_EQ(read_file(folder_ / "text/vocab.txt"), kVocabulary);
  const auto settings = read_json("text/tokenizer_config.json");
  EXPECT_EQ(settings.at("do_lower_case"), false);
  EXPECT_EQ(settings.at("strip_accents"), false);
  EXPECT_EQ(settings.at("model_max_length"), 256);
  auto loaded = test::zero_entries({{"embeddings.word_embeddings.weight", {8, 4}}});
  load_backbone(loaded, folder_ / "text", names_of(TextFamily::distilbert));
  EXPECT_TRUE(loaded[0].view.equal(entries_[0].view));
}

TEST_F(ExportedTextTower, GetsAVocabTxtFromATokenizerJson) {
  write_file_atomic(folder_ / "tokenizer.json",
                    R"({"model": {"type": "WordPiece", "vocab": {"[UNK]": 1, "[PAD]": 0, "[CLS]": 2, "[SEP]": 3}}})");
  export_text_tower(folder_ / "text", tower(folder_ / "tokenizer.json"));
  EXPECT_EQ(read_file(folder_ / "text/vocab.txt"), "[PAD]\n[UNK]\n[CLS]\n[SEP]\n");
}

TEST_F(ExportedTextTower, ReplacesAnOldFolder) {
  write_file_atomic(folder_ / "text/old.txt", "old");
  export_text_tower(folder_ / "text", tower(folder_ / "vocab.txt"));
  EXPECT_FALSE(fs::exists(folder_ / "text/old.txt"));
  EXPECT_TRUE(fs::exists(folder_ / "text/config.json"));
}

TEST_F(ExportedTextTower, IsRefusedWithAVocabularyThatIsTooLargeOrHasNoPad) {
  write_file_atomic(folder_ / "vocab.txt", kVocabulary + "a\nb\n");
  EXPECT_TRUE(contains(message_of([&] { export_text_tower(folder_ / "text", tower(folder_ / "vocab.txt")); }),
                       "has 9 tokens, the tower's word embedding 8 rows"));
  write_file_atomic(folder_ / "vocab.txt", "[UNK]\n");
  EXPECT_TRUE(
      contains(message_of([&] { export_text_tower(folder_ / "text", tower(folder_ / "vocab.txt")); }), "[PAD]"));
  EXPECT_FALSE(fs::exists(folder_ / "text"));
}

TEST(VocabularyOf, RefusesMalformedTokenizerJson) {
  const std::string file = "some/tokenizer.json";
  for (const char* vocabulary : {R"({"a": 0, "b": 0})", R"({"a": 0, "b": 2})", R"({"a": "x"})", R"(["a"])"}) {
    const auto text = fmt::format(R"({{"model": {{"vocab": {}}}}})", vocabulary);
    EXPECT_TRUE(contains(message_of([&] { vocabulary_of({file, text}); }), file)) << vocabulary;
  }
  EXPECT_THROW(vocabulary_of({file, "{"}), Error);
}

TEST(ExportedVisionTower, HoldsConfigWeightsAndPreprocessor) {
  const test::TempFolder folder;
  VisionConfig config;
  config.family = VisionFamily::deit;
  config.hidden_size = 8;
  config.num_attention_heads = 2;
  config.image_size = 32;
  config.patch_size = 8;
  const std::vector<nn::WeightEntry> entries{{"layernorm.weight", test::counting({8})}};
  export_vision_tower(folder / "vision", {config, entries, vit_policy(32)});
  const auto again = vision_config_from_hf(nlohmann::json::parse(read_file(folder / "vision/config.json")), "config");
  EXPECT_TRUE(is_distilled(again));
  EXPECT_EQ(again.image_size, 32);
  EXPECT_EQ(read_image_policy(folder / "vision/preprocessor_config.json").pixel_key(), vit_policy(32).pixel_key());
  auto loaded = test::zero_entries({{"layernorm.weight", {8}}});
  load_backbone(loaded, folder / "vision", names_of(VisionFamily::deit));
  EXPECT_TRUE(loaded[0].view.equal(entries[0].view));
}

}  // namespace
}  // namespace mmkd
