#include "mmkd/weights/names.h"

#include <gtest/gtest.h>

namespace mmkd {
namespace {

TEST(Alias, RenamesABeginningAndKeepsTheRest) {
  const std::vector<Alias> aliases{{"head_mod.", "head_modality.head.1."}};
  EXPECT_EQ(rename(aliases, "head_mod.weight"), "head_modality.head.1.weight");
  EXPECT_EQ(rename(aliases, "head_modality.weight"), "head_modality.weight");
  EXPECT_EQ(rename(aliases, "x.head_mod.weight"), "x.head_mod.weight");
}

TEST(Alias, CarriesOneComponentThroughTheStar) {
  const std::vector<Alias> aliases{{"layers.*.mlp.fc1.", "encoder.layer.*.intermediate.dense."}};
  EXPECT_EQ(rename(aliases, "layers.11.mlp.fc1.bias"), "encoder.layer.11.intermediate.dense.bias");
  EXPECT_EQ(rename(aliases, "layers.1.x.mlp.fc1.bias"), "layers.1.x.mlp.fc1.bias");
  EXPECT_EQ(rename(aliases, "layers..mlp.fc1.bias"), "layers..mlp.fc1.bias");
  EXPECT_EQ(rename(aliases, "layers.11"), "layers.11");
}

TEST(EntryName, TakesOffThePrefix) {
  EXPECT_EQ(entry_name(names_of(VisionFamily::vit), "vit.layernorm.weight"), "layernorm.weight");
  EXPECT_EQ(entry_name(names_of(VisionFamily::deit), "deit.layernorm.weight"), "layernorm.weight");
  EXPECT_EQ(entry_name(names_of(TextFamily::bert), "bert.embeddings.LayerNorm.bias"), "embeddings.LayerNorm.bias");
  EXPECT_EQ(entry_name(names_of(TextFamily::distilbert), "distilbert.embeddings.LayerNorm.bias"),
            "embeddings.LayerNorm.bias");
  EXPECT_EQ(entry_name(names_of(VisionFamily::vit), "layernorm.weight"), "layernorm.weight");
}

TEST(EntryName, TurnsLegacyLayerNormNames) {
  const auto names = names_of(TextFamily::bert);
  EXPECT_EQ(entry_name(names, "bert.encoder.layer.0.output.LayerNorm.gamma"),
            "encoder.layer.0.output.LayerNorm.weight");
  EXPECT_EQ(entry_name(names, "bert.encoder.layer.0.output.LayerNorm.beta"), "encoder.layer.0.output.LayerNorm.bias");
}

TEST(EntryName, IgnoresHeadsPoolersAndPositionIds) {
  for (const char* name : {"vit.pooler.dense.weight", "classifier.bias", "decoder.0.weight"}) {
    EXPECT_EQ(entry_name(names_of(VisionFamily::vit), name), std::nullopt) << name;
  }
  for (const char* name : {"cls_classifier.weight", "distillation_classifier.bias"}) {
    EXPECT_EQ(entry_name(names_of(VisionFamily::deit), name), std::nullopt) << name;
  }
  for (const char* name :
       {"bert.embeddings.position_ids", "cls.predictions.transform.LayerNorm.gamma", "bert.pooler.dense.bias"}) {
    EXPECT_EQ(entry_name(names_of(TextFamily::bert), name), std::nullopt) << name;
  }
  for (const char* name :
       {"vocab_projector.bias", "vocab_layer_norm.weight", "pre_classifier.weight", "classifier.weight"}) {
    EXPECT_EQ(entry_name(names_of(TextFamily::distilbert), name), std::nullopt) << name;
  }
}

TEST(EntryName, KnowsTheNamesThatTransformersUsesInMemoryForVit) {
  const auto names = names_of(VisionFamily::vit);
  EXPECT_EQ(entry_name(names, "layers.3.attention.q_proj.weight"), "encoder.layer.3.attention.attention.query.weight");
  EXPECT_EQ(entry_name(names, "layers.3.attention.o_proj.bias"), "encoder.layer.3.attention.output.dense.bias");
  EXPECT_EQ(entry_name(names, "vit.layers.0.layernorm_after.bias"), "encoder.layer.0.layernorm_after.bias");
}

TEST(TwoTowerAliases, NameEveryPartOfAPlainModelAsOurs) {
  const std::vector<std::string> slugs{"modality", "location"};
  const auto aliases = two_tower_aliases(slugs);
  EXPECT_EQ(rename(aliases, "fusion.layers.1.self_attn.in_proj_weight"),
            "fusion.encoder.layers.1.self_attn.in_proj_weight");
  EXPECT_EQ(rename(aliases, "head_mod.weight"), "head_modality.head.1.weight");
  EXPECT_EQ(rename(aliases, "head_loc.bias"), "head_location.head.1.bias");
  EXPECT_EQ(rename(aliases, "kd.P_img.weight"), "distill.proj_img.weight");
  EXPECT_EQ(rename(aliases, "kd.P_txt.bias"), "distill.proj_txt.bias");
  EXPECT_EQ(rename(aliases, "vision.layers.2.mlp.fc2.weight"), "vision.encoder.layer.2.output.dense.weight");
  EXPECT_EQ(rename(aliases, "proj_vis.weight"), "proj_vis.weight");
  EXPECT_EQ(rename(aliases, "text.encoder.layer.0.output.dense.bias"), "text.encoder.layer.0.output.dense.bias");
}

TEST(TwoTowerAliases, LeaveTheSecondHeadAloneWhereThereIsOneTask) {
  const std::vector<std::string> slugs{"type"};
  const auto aliases = two_tower_aliases(slugs);
  EXPECT_EQ(rename(aliases, "head_mod.bias"), "head_type.head.1.bias");
  EXPECT_EQ(rename(aliases, "head_loc.bias"), "head_loc.bias");
}

}  // namespace
}  // namespace mmkd
