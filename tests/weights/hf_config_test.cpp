#include "mmkd/weights/hf_config.h"

#include <gtest/gtest.h>

#include "mmkd/base/files.h"
#include "tests/weights/support.h"

namespace mmkd {
namespace {

using nlohmann::json;
using test::contains;
using test::message_of;

json case_config(const std::string& name) {
  return json::parse(read_file(fs::path(MMKD_SOURCE_DIR) / "tests/parity/cases" / name / "model/config.json"));
}

TEST(VisionConfigFromHf, ReadsWhatTransformersWrote) {
  const auto vit = vision_config_from_hf(case_config("vision-vit-no-qkv-bias-eps"), "f");
  EXPECT_EQ(vit.family, VisionFamily::vit);
  EXPECT_EQ(vit.hidden_size, 32);
  EXPECT_EQ(vit.num_hidden_layers, 3);
  EXPECT_EQ(vit.num_attention_heads, 2);
  EXPECT_EQ(vit.intermediate_size, 64);
  EXPECT_EQ(vit.image_size, 32);
  EXPECT_EQ(vit.patch_size, 8);
  EXPECT_EQ(vit.layer_norm_eps, 0.001);
  EXPECT_FALSE(vit.qkv_bias);
  EXPECT_FALSE(is_distilled(vit));
  EXPECT_EQ(vision_config_from_hf(case_config("vision-vit-gelu-new"), "f").hidden_act, "gelu_new");
  EXPECT_TRUE(is_distilled(vision_config_from_hf(case_config("vision-deit-distilled"), "f")));
}

TEST(VisionConfigFromHf, TakesTheReferencesDefaultsForAbsentAndNullKeys) {
  const auto vit = vision_config_from_hf({{"model_type", "vit"}, {"patch_size", nullptr}}, "f");
  EXPECT_EQ(vit.hidden_size, 768);
  EXPECT_EQ(vit.num_hidden_layers, 12);
  EXPECT_EQ(vit.intermediate_size, 3072);
  EXPECT_EQ(vit.image_size, 224);
  EXPECT_EQ(vit.patch_size, 16);
  EXPECT_EQ(vit.hidden_act, "gelu");
  EXPECT_EQ(vit.layer_norm_eps, 1e-12);
  EXPECT_TRUE(vit.qkv_bias);
}

TEST(TextConfigFromHf, ReadsBert) {
  const auto bert = text_config_from_hf(case_config("text-bert"), "f");
  EXPECT_EQ(bert.family, TextFamily::bert);
  EXPECT_EQ(bert.vocab_size, 150);
  EXPECT_EQ(bert.max_position_embeddings, 40);
  EXPECT_EQ(bert.type_vocab_size, 2);
  EXPECT_EQ(bert.intermediate_size, 64);
  EXPECT_EQ(bert.num_attention_heads, 4);
  EXPECT_EQ(text_config_from_hf(case_config("text-bert-relu"), "f").hidden_act, "relu");
}

TEST(TextConfigFromHf, ReadsDistilBertsOwnNames) {
  const auto distilbert = text_config_from_hf({{"model_type", "distilbert"},
                                               {"dim", 48},
                                               {"n_layers", 5},
                                               {"n_heads", 3},
                                               {"hidden_dim", 96},
                                               {"activation", "relu"}},
                                              "f");
  EXPECT_EQ(distilbert.family, TextFamily::distilbert);
  EXPECT_EQ(distilbert.hidden_size, 48);
  EXPECT_EQ(distilbert.num_hidden_layers, 5);
  EXPECT_EQ(distilbert.num_attention_heads, 3);
  EXPECT_EQ(distilbert.intermediate_size, 96);
  EXPECT_EQ(distilbert.hidden_act, "relu");
  EXPECT_EQ(distilbert.type_vocab_size, 0);
  EXPECT_EQ(distilbert.layer_norm_eps, 1e-12);
  EXPECT_EQ(distilbert.vocab_size, 30522);
}

TEST(HfConfigErrors, NameFileKeyAndValue) {
  const auto vision_error = [](json extra) {
    json config{{"model_type", "vit"}};
    config.update(extra);
    return message_of([&] { vision_config_from_hf(config, "x/config.json"); });
  };
  EXPECT_EQ(vision_error({{"hidden_size", "big"}}),
            "x/config.json: hidden_size: expected a whole number from 1 to 16777216, found \"big\"");
  EXPECT_TRUE(contains(vision_error({{"hidden_size", 0}}), "hidden_size"));
  EXPECT_TRUE(contains(vision_error({{"hidden_size", 1.5}}), "hidden_size"));
  EXPECT_TRUE(contains(vision_error({{"num_channels", 1}}), "num_channels: expected 3"));
  EXPECT_TRUE(contains(vision_error({{"image_size", {224, 112}}}), "image_size"));
  EXPECT_TRUE(contains(vision_error({{"image_size", 8}}), "patch_size 16 is larger"));
  EXPECT_TRUE(contains(vision_error({{"num_attention_heads", 5}}), "no multiple"));
  EXPECT_TRUE(contains(vision_error({{"layer_norm_eps", 0}}), "layer_norm_eps"));
  EXPECT_TRUE(contains(vision_error({{"qkv_bias", 1}}), "qkv_bias"));
  EXPECT_TRUE(contains(vision_error({{"model_type", "bert"}}), "mobilenet_v2 for a vision tower, found 'bert'"));
  EXPECT_TRUE(contains(message_of([] { vision_config_from_hf(json::array(), "x"); }), "JSON object"));
}

TEST(HfConfigErrors, NameTextSettingsThatAreNotSupported) {
  const auto text_error = [](json extra) {
    json config{{"model_type", "bert"}};
    config.update(extra);
    return message_of([&] { text_config_from_hf(config, "x"); });
  };
  EXPECT_EQ(text_error(json::object()), "");
  EXPECT_TRUE(contains(text_error({{"position_embedding_type", "relative_key"}}), "position_embedding_type"));
  EXPECT_TRUE(contains(text_error({{"is_decoder", true}}), "is_decoder"));
  EXPECT_TRUE(contains(text_error({{"hidden_dropout_prob", 1}}), "hidden_dropout_prob"));
  EXPECT_TRUE(contains(text_error({{"vocab_size", 5}, {"pad_token_id", 5}}), "pad_token_id 5 lies outside"));
  EXPECT_TRUE(contains(text_error({{"model_type", "gpt2"}}), "mobilebert or roberta for a text tower, found 'gpt2'"));
}

TEST(ToHfJson, IsReadBackAsTheSameVisionConfig) {
  for (const char* name : {"vision-vit-no-qkv-bias-eps", "vision-deit-distilled", "vision-vit-gelu-new"}) {
    auto config = vision_config_from_hf(case_config(name), "f");
    config.hidden_dropout = 0.25;
    EXPECT_EQ(vision_config_from_hf(to_hf_json(config), "g"), config) << name;
  }
}

TEST(ToHfJson, IsReadBackAsTheSameTextConfig) {
  for (const char* name : {"text-bert", "text-bert-gelu-new", "text-distilbert"}) {
    auto config = text_config_from_hf(case_config(name), "f");
    config.pad_token_id = 7;
    config.hidden_dropout = 0.25;
    EXPECT_EQ(text_config_from_hf(to_hf_json(config), "g"), config) << name;
  }
}

TEST(ToHfJson, WritesFourTimesTheWidthWhereNoIntermediateSizeIsSet) {
  VisionConfig vision;
  vision.hidden_size = 100;
  EXPECT_EQ(to_hf_json(vision).at("intermediate_size"), 400);
  TextConfig text;
  text.hidden_size = 64;
  EXPECT_EQ(to_hf_json(text).at("intermediate_size"), 256);
}

TEST(ToHfJson, OfEveryFamilyIsReadBackAsTheSameConfig) {
  for (const auto family :
       {VisionFamily::vit, VisionFamily::deit, VisionFamily::mobilevit, VisionFamily::mobilenet_v2}) {
    VisionConfig vision;
    vision.family = family;
    vision.intermediate_size = 3072;
    vision.mobilevit.hidden_sizes = {8, 12, 16};
    vision.mobilevit.mlp_ratio = 3;
    vision.mobilenet_v2.depth_multiplier = 0.35;
    vision.mobilenet_v2.tf_padding = false;
    const auto read = vision_config_from_hf(json::parse(to_hf_json(vision).dump()), "x");
    EXPECT_EQ(read.family, family);
    if (family == VisionFamily::mobilevit) {
      EXPECT_EQ(read.mobilevit, vision.mobilevit);
    }
    if (family == VisionFamily::mobilenet_v2) {
      EXPECT_EQ(read.mobilenet_v2, vision.mobilenet_v2);
    }
  }
  for (const auto family : {TextFamily::bert, TextFamily::distilbert, TextFamily::mobilebert, TextFamily::roberta}) {
    TextConfig text;
    text.family = family;
    text.vocab_size = 100;
    text.intermediate_size = 512;
    text.pad_token_id = 3;
    text.mobilebert.embedding_size = 64;
    text.mobilebert.normalization_type = "layer_norm";
    const auto read = text_config_from_hf(json::parse(to_hf_json(text).dump()), "x");
    EXPECT_EQ(read.family, family);
    EXPECT_EQ(read.pad_token_id, 3);
    if (family == TextFamily::mobilebert) {
      EXPECT_EQ(read.mobilebert, text.mobilebert);
    }
  }
}

TEST(ToHfJson, RefusesATowerThatTransformersHasNoClassFor) {
  TextConfig text;
  text.family = TextFamily::custom_text;
  EXPECT_TRUE(contains(message_of([&] { to_hf_json(text); }), "custom_text"));
}

TEST(ToHfJson, OfAnImagePolicyIsReadBackAsTheSamePolicy) {
  ImagePolicy crop = vit_policy(224);
  crop.do_center_crop = true;
  crop.height = crop.width = 256;
  crop.crop_height = crop.crop_width = 224;
  crop.mean = {0.485, 0.456, 0.406};
  ImagePolicy edge = crop;
  edge.shortest_edge = 256;
  ImagePolicy bgr = crop;
  bgr.bgr = true;
  bgr.do_normalize = false;
  bgr.shortest_edge = 288;
  for (const auto& policy : {vit_policy(224), vit_policy(32), crop, edge, bgr}) {
    const auto again = parse_image_policy(to_hf_json(policy).dump(), "p");
    EXPECT_EQ(again.pixel_key(), policy.pixel_key());
    EXPECT_EQ(pixel_table(again), pixel_table(policy));
    EXPECT_EQ(again.bgr, policy.bgr);
  }
}

}  // namespace
}  // namespace mmkd
