#include <gtest/gtest.h>

#include "mmkd/backbones/vision_backbone.h"
#include "mmkd/base/error.h"
#include "tests/backbones/towers.h"
#include "tests/support/weight_checks.h"

namespace mmkd {
namespace {

VisionConfig small_vit(VisionFamily family = VisionFamily::vit) {
  VisionConfig config;
  config.family = family;
  config.hidden_size = 16;
  config.num_hidden_layers = 2;
  config.num_attention_heads = 2;
  config.image_size = 16;
  config.patch_size = 4;
  config.initializer_range = 0.3;  // so that tokens differ visibly
  return config;
}

TEST(Vit, HasTheNamesOfACheckpoint) {
  auto config = small_vit();
  config.num_hidden_layers = 1;
  const std::vector<std::string> expected{
      "embeddings.cls_token",
      "embeddings.patch_embeddings.projection.bias",
      "embeddings.patch_embeddings.projection.weight",
      "embeddings.position_embeddings",
      "encoder.layer.0.attention.attention.key.bias",
      "encoder.layer.0.attention.attention.key.weight",
      "encoder.layer.0.attention.attention.query.bias",
      "encoder.layer.0.attention.attention.query.weight",
      "encoder.layer.0.attention.attention.value.bias",
      "encoder.layer.0.attention.attention.value.weight",
      "encoder.layer.0.attention.output.dense.bias",
      "encoder.layer.0.attention.output.dense.weight",
      "encoder.layer.0.intermediate.dense.bias",
      "encoder.layer.0.intermediate.dense.weight",
      "encoder.layer.0.layernorm_after.bias",
      "encoder.layer.0.layernorm_after.weight",
      "encoder.layer.0.layernorm_before.bias",
      "encoder.layer.0.layernorm_before.weight",
      "encoder.layer.0.output.dense.bias",
      "encoder.layer.0.output.dense.weight",
      "layernorm.bias",
      "layernorm.weight",
  };
  EXPECT_EQ(names(*make_vision_backbone(config)), expected);
}

TEST(Vit, NamesCoverEveryParameterOnce) {
  for (const auto family : {VisionFamily::vit, VisionFamily::deit}) {
    const auto tower = make_vision_backbone(small_vit(family));
    expect_covers_parameters_once(*tower, tower->named_weights());
  }
}

TEST(Vit, QueryKeyAndValueCanBeWithoutBias) {
  auto config = small_vit();
  config.qkv_bias = false;
  const auto all = names(*make_vision_backbone(config));
  const auto has = [&](const std::string& name) { return std::find(all.begin(), all.end(), name) != all.end(); };
  EXPECT_FALSE(has("encoder.layer.0.attention.attention.key.bias"));
  EXPECT_TRUE(has("encoder.layer.0.attention.output.dense.bias"));
}

TEST(Vit, FeaturesHaveOneRowPerTokenAndForwardIsTheFirst) {
  const at::Tensor pixels = pictures({2, 3, 16, 16});
  for (const auto& [family, tokens] : {std::pair{VisionFamily::vit, 17}, {VisionFamily::deit, 18}}) {
    auto config = small_vit(family);
    config.hidden_dropout = 0.2;
    const auto tower = filled(config);
    for (const auto& context : {nn::ForwardContext(), training()}) {
      const at::Tensor features = tower->forward_features(pixels, context);
      EXPECT_EQ(features.sizes(), (at::IntArrayRef{2, tokens, 16}));
      EXPECT_TRUE(at::allclose(tower->forward(pixels, context), features.select(1, 0), 1e-4, 1e-5));
    }
  }
}

TEST(Vit, PatchEmbeddingIsTheConvolutionOfTheCheckpoint) {
  auto config = small_vit();
  config.num_hidden_layers = 0;
  const auto tower = filled(config);
  at::Tensor weight, bias, positions;
  for (const auto& entry : tower->named_weights()) {
    if (entry.name == "embeddings.patch_embeddings.projection.weight") weight = entry.view;
    if (entry.name == "embeddings.patch_embeddings.projection.bias") bias = entry.view;
    if (entry.name == "embeddings.position_embeddings") positions = entry.view;
  }
  const at::Tensor pixels = pictures({2, 3, 16, 16});
  const at::Tensor patches = at::conv2d(pixels, weight, bias, /*stride=*/4).flatten(2).transpose(1, 2);
  const at::Tensor expected = at::layer_norm(patches + positions.narrow(1, 1, 16), {16}, {}, {}, 1e-12);
  EXPECT_TRUE(at::allclose(tower->forward_features(pixels, {}).narrow(1, 1, 16), expected, 1e-4, 1e-5));
}

TEST(Vit, PositionsAreInterpolatedToPicturesOfOtherSizes) {
  const auto tower = filled(small_vit());
  EXPECT_EQ(tower->forward_features(pictures({2, 3, 24, 20}), {}).sizes(), (at::IntArrayRef{2, 1 + 6 * 5, 16}));
  // As many patches in another arrangement: rows and columns must not be taken for one another.
  const at::Tensor wide = pictures({1, 3, 8, 32});
  EXPECT_EQ(tower->forward_features(wide, {}).sizes(), (at::IntArrayRef{1, 17, 16}));
}

TEST(Vit, ConstantPositionsStayConstantWhenInterpolated) {
  const auto tower = filled(small_vit());
  for (auto& entry : tower->named_weights()) {
    if (entry.name == "embeddings.position_embeddings") entry.view.fill_(0.5);
  }
  const at::Tensor pixels = at::ones({1, 3, 28, 12});
  // All patches are alike, so all patch tokens are if their positions are.
  const at::Tensor patches = tower->forward_features(pixels, {}).narrow(1, 1, 21);
  EXPECT_TRUE(at::allclose(patches, patches.narrow(1, 0, 1).expand_as(patches), 1e-4, 1e-4));
}

TEST(Vit, EveryParameterTakesPartInTheClassToken) {
  for (const auto family : {VisionFamily::vit, VisionFamily::deit}) {
    const auto tower = filled(small_vit(family));
    tower->forward(pictures({2, 3, 16, 16}), {}).pow(3).sum().backward();
    for (const auto& parameter : tower->named_parameters()) {
      ASSERT_TRUE(parameter.value().grad().defined()) << parameter.key();
      EXPECT_GT(parameter.value().grad().abs().max().item<float>(), 0) << parameter.key();
    }
  }
}

TEST(Vit, RefusesWhatCannotBe) {
  EXPECT_THROW(filled(small_vit())->forward(pictures({1, 1, 16, 16}), {}), Error);
  EXPECT_THROW(filled(small_vit())->forward(pictures({1, 3, 3, 16}), {}), Error);
  auto config = small_vit();
  config.num_attention_heads = 3;
  EXPECT_THROW(make_vision_backbone(config), UsageError);
  config = small_vit();
  config.hidden_act = "softplus";
  EXPECT_THROW(make_vision_backbone(config), UsageError);
  config = small_vit();
  config.patch_size = 32;
  EXPECT_THROW(make_vision_backbone(config), UsageError);
}

}  // namespace
}  // namespace mmkd
