#include "mmkd/models/model_card.h"

#include <gtest/gtest.h>

#include "mmkd/base/error.h"
#include "mmkd/base/files.h"
#include "tests/support/temp_folder.h"

namespace mmkd {
namespace {

ModelCard small_card(Modality modality = Modality::both, TextFamily text = TextFamily::bert) {
  ModelConfig config;
  config.modality = modality;
  config.fusion_dim = 16;
  config.fusion_heads = 2;
  config.text_pooling = TextPooling::mean;
  config.vision.hidden_size = config.text.hidden_size = 16;
  config.vision.num_hidden_layers = config.text.num_hidden_layers = 1;
  config.vision.num_attention_heads = config.text.num_attention_heads = 2;
  config.vision.intermediate_size = config.text.intermediate_size = 32;
  config.vision.image_size = 16;
  config.vision.patch_size = 8;
  config.text.family = text;
  config.text.vocab_size = 6;
  config.text.max_position_embeddings = 12;
  ModelCard card;
  card.spec = make_model_spec(config, FusionConfig{.type = FusionType::gated}, {{"site", 2}, {"the_kind", 3}});
  card.vision_name = "vit-1x16";
  card.text_name = "bert-1x16";
  card.policy = vit_policy(16);
  card.tokenizer = {"some/vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\nthorax\n\xC3\xA9\n"};
  card.tokenizer_settings.do_lower_case = false;
  card.max_length = 10;
  card.tasks = {{"Site", {"a", "b"}}, {"The kind", {"x", "y", "z"}}};
  return card;
}

ModelDescription described(const ModelCard& card) { return {"1.0", card.tasks, to_json_text(card)}; }

void expect_same(const ModelCard& a, const ModelCard& b) {
  EXPECT_EQ(to_json_text(a), to_json_text(b));
  EXPECT_EQ(a.spec.vision, b.spec.vision);
  EXPECT_EQ(a.spec.text, b.spec.text);
  EXPECT_EQ(a.spec.modality, b.spec.modality);
  EXPECT_EQ(a.spec.text_pooling, b.spec.text_pooling);
  EXPECT_EQ(a.spec.fusion.type, b.spec.fusion.type);
  EXPECT_EQ(a.policy, b.policy);
  EXPECT_EQ(a.tokenizer.bytes, b.tokenizer.bytes);
  EXPECT_EQ(a.max_length, b.max_length);
}

TEST(ModelCard, ComesBackEqual) {
  for (const auto text : {TextFamily::bert, TextFamily::custom_text, TextFamily::distilbert}) {
    auto card = small_card(Modality::both, text);
    if (text == TextFamily::distilbert) card.spec.text.type_vocab_size = 0;
    const auto back = card_of(described(card), "file");
    expect_same(card, back);
    EXPECT_EQ(back.spec.tasks[1].slug, "the_kind");
    EXPECT_EQ(back.spec.tasks[1].classes, 3);
  }
}

TEST(ModelCard, OfOneModalityHoldsNothingOfTheOther) {
  const auto image = to_json_text(small_card(Modality::image));
  EXPECT_EQ(image.find("thorax"), std::string::npos);
  EXPECT_EQ(card_of({"1.0", small_card().tasks, image}, "file").spec.modality, Modality::image);
  const auto text = to_json_text(small_card(Modality::text));
  EXPECT_EQ(text.find("preprocessor"), std::string::npos);
}

TEST(ModelCard, ThatIsMalformedNamesTheFile) {
  const auto good = to_json_text(small_card());
  const auto changed = [&](const std::string& from, const std::string& to) {
    auto text = good;
    return text.replace(text.find(from), from.size(), to);
  };
  for (const auto& text : {std::string("x"), std::string("[]"), changed("\"version\":1", "\"version\":9"),
                           changed("\"gated\"", "\"sum\""), changed("\"max_length\":10", "\"max_length\":13"),
                           changed("\"max_length\":10", "\"max_length\":\"a\""), changed("\"pooling\"", "\"pool\"")}) {
    try {
      (void)card_of({"1.0", small_card().tasks, text}, "some file");
      ADD_FAILURE() << text.substr(0, 60);
    } catch (const Error& error) {
      EXPECT_TRUE(std::string(error.what()).starts_with("some file: ")) << error.what();
    }
  }
}

TEST(OpenModel, GivesTheModelThatWasSaved) {
  const test::TempFolder folder;
  const auto card = small_card();
  const auto model = make_model(card.spec, 5);
  save_model(folder.path(), "m", model->named_weights(), described(card));
  const auto opened = open_model(folder / "m.safetensors");
  expect_same(card, opened.card);
  EXPECT_FALSE(opened.model->is_training());
  const auto want = model->named_weights(), got = opened.model->named_weights();
  ASSERT_EQ(want.size(), got.size());
  for (std::size_t i = 0; i < want.size(); ++i) EXPECT_TRUE(want[i].view.equal(got[i].view)) << want[i].name;
}

TEST(OpenModel, RefusesWeightsThatSayNothingAboutTheirModel) {
  const test::TempFolder folder;
  const auto card = small_card();
  const auto model = make_model(card.spec, 5);
  save_model(folder.path(), "m", model->named_weights(), {"1.0", card.tasks, ""});
  EXPECT_THROW(open_model(folder / "m.safetensors"), UsageError);
  EXPECT_THROW(open_model(folder / "m.pth"), UsageError);
}

TEST(OpenModel, RefusesWeightsOfAnotherSize) {
  const test::TempFolder folder;
  const auto card = small_card();
  auto other = card;
  other.spec.text.intermediate_size = 48;
  const auto model = make_model(card.spec, 5);
  save_model(folder.path(), "m", model->named_weights(), described(other));
  EXPECT_THROW(open_model(folder / "m.safetensors"), Error);
}

}  // namespace
}  // namespace mmkd
