#include <gtest/gtest.h>

#include <algorithm>

#include "mmkd/backbones/text_backbone.h"
#include "mmkd/base/error.h"
#include "tests/backbones/towers.h"
#include "tests/support/weight_checks.h"

namespace mmkd {
namespace {

TextConfig small_bert(TextFamily family = TextFamily::bert) {
  TextConfig config;
  config.family = family;
  config.vocab_size = 30;
  config.hidden_size = 16;
  config.num_hidden_layers = 2;
  config.num_attention_heads = 2;
  config.max_position_embeddings = 12;
  config.initializer_range = 0.3;  // so that tokens differ visibly
  return config;
}

/// Two texts of 5 and 3 tokens, padded to `length`.
struct Texts {
  explicit Texts(std::int64_t length)
      : ids(at::zeros({2, length}, at::kLong)), mask(at::zeros({2, length}, at::kBool)) {
    ids[0].narrow(0, 0, 5).copy_(at::tensor({1, 9, 4, 25, 2}, at::kLong));
    ids[1].narrow(0, 0, 3).copy_(at::tensor({1, 17, 2}, at::kLong));
    mask[0].narrow(0, 0, 5).fill_(true);
    mask[1].narrow(0, 0, 3).fill_(true);
  }
  at::Tensor ids, mask;
};

at::Tensor weight(const TextBackbone& tower, const std::string& name) {
  for (const auto& entry : tower.named_weights()) {
    if (entry.name == name) return entry.view;
  }
  throw Error("no weight {}", name);
}

TEST(Bert, HasTheNamesOfACheckpoint) {
  auto config = small_bert();
  config.num_hidden_layers = 1;
  const std::vector<std::string> expected{
      "embeddings.LayerNorm.bias",
      "embeddings.LayerNorm.weight",
      "embeddings.position_embeddings.weight",
      "embeddings.token_type_embeddings.weight",
      "embeddings.word_embeddings.weight",
      "encoder.layer.0.attention.output.LayerNorm.bias",
      "encoder.layer.0.attention.output.LayerNorm.weight",
      "encoder.layer.0.attention.output.dense.bias",
      "encoder.layer.0.attention.output.dense.weight",
      "encoder.layer.0.attention.self.key.bias",
      "encoder.layer.0.attention.self.key.weight",
      "encoder.layer.0.attention.self.query.bias",
      "encoder.layer.0.attention.self.query.weight",
      "encoder.layer.0.attention.self.value.bias",
      "encoder.layer.0.attention.self.value.weight",
      "encoder.layer.0.intermediate.dense.bias",
      "encoder.layer.0.intermediate.dense.weight",
      "encoder.layer.0.output.LayerNorm.bias",
      "encoder.layer.0.output.LayerNorm.weight",
      "encoder.layer.0.output.dense.bias",
      "encoder.layer.0.output.dense.weight",
  };
  EXPECT_EQ(names(*make_text_backbone(config)), expected);
}

TEST(DistilBert, HasTheNamesOfACheckpoint) {
  auto config = small_bert(TextFamily::distilbert);
  config.num_hidden_layers = 1;
  const std::vector<std::string> expected{
      "embeddings.LayerNorm.bias",
      "embeddings.LayerNorm.weight",
      "embeddings.position_embeddings.weight",
      "embeddings.word_embeddings.weight",
      "transformer.layer.0.attention.k_lin.bias",
      "transformer.layer.0.attention.k_lin.weight",
      "transformer.layer.0.attention.out_lin.bias",
      "transformer.layer.0.attention.out_lin.weight",
      "transformer.layer.0.attention.q_lin.bias",
      "transformer.layer.0.attention.q_lin.weight",
      "transformer.layer.0.attention.v_lin.bias",
      "transformer.layer.0.attention.v_lin.weight",
      "transformer.layer.0.ffn.lin1.bias",
      "transformer.layer.0.ffn.lin1.weight",
      "transformer.layer.0.ffn.lin2.bias",
      "transformer.layer.0.ffn.lin2.weight",
      "transformer.layer.0.output_layer_norm.bias",
      "transformer.layer.0.output_layer_norm.weight",
      "transformer.layer.0.sa_layer_norm.bias",
      "transformer.layer.0.sa_layer_norm.weight",
  };
  EXPECT_EQ(names(*make_text_backbone(config)), expected);
}

TEST(Bert, NamesCoverEveryParameterOnce) {
  for (const auto family : {TextFamily::bert, TextFamily::distilbert}) {
    const auto tower = make_text_backbone(small_bert(family));
    expect_covers_parameters_once(*tower, tower->named_weights());
  }
}

TEST(Bert, FeaturesHaveOneRowPerTokenAndForwardIsTheFirst) {
  const Texts texts(6);
  for (const auto family : {TextFamily::bert, TextFamily::distilbert}) {
    const auto tower = filled(small_bert(family));
    for (const auto& context : {nn::ForwardContext(), training()}) {
      const at::Tensor features = tower->forward_features(texts.ids, texts.mask, context);
      EXPECT_EQ(features.sizes(), (at::IntArrayRef{2, 6, 16}));
      EXPECT_TRUE(at::allclose(tower->forward(texts.ids, texts.mask, context), features.select(1, 0), 1e-4, 1e-5));
    }
  }
}

TEST(Bert, PaddingChangesNothingInTrainingEither) {
  const Texts shorter(5), longer(11);
  for (const auto family : {TextFamily::bert, TextFamily::distilbert}) {
    const auto tower = filled(small_bert(family));
    for (const auto& context : {nn::ForwardContext(), training()}) {
      EXPECT_TRUE(at::allclose(tower->forward(shorter.ids, shorter.mask, context),
                               tower->forward(longer.ids, longer.mask, context), 1e-4, 1e-5));
    }
  }
}

TEST(Bert, TheWordEmbeddingOfPaddingBeginsWithZerosAndGetsNoGradient) {
  auto config = small_bert();
  config.pad_token_id = 17;
  const auto tower = filled(config);
  EXPECT_EQ(weight(*tower, "embeddings.word_embeddings.weight")[17].abs().max().item<float>(), 0);
  const Texts texts(6);  // 17 is a word of the second
  tower->forward(texts.ids, texts.mask, {}).pow(3).sum().backward();
  for (const auto& entry : tower->named_weights()) {
    if (entry.name != "embeddings.word_embeddings.weight") continue;
    EXPECT_EQ(nn::gradient(entry)[17].abs().max().item<float>(), 0);
    EXPECT_GT(nn::gradient(entry)[9].abs().max().item<float>(), 0);
  }
}

TEST(Bert, AllTokensAreOfTypeZero) {
  const auto tower = filled(small_bert());
  const Texts texts(6);
  const at::Tensor before = tower->forward(texts.ids, texts.mask, {});
  at::Tensor types = weight(*tower, "embeddings.token_type_embeddings.weight");
  types[1].fill_(3);
  EXPECT_TRUE(at::equal(tower->forward(texts.ids, texts.mask, {}), before));
  types[0].narrow(0, 0, 8).fill_(3);
  EXPECT_FALSE(at::allclose(tower->forward(texts.ids, texts.mask, {}), before));
}

TEST(Bert, EveryParameterTakesPartInTheClassToken) {
  const Texts texts(6);
  for (const auto family : {TextFamily::bert, TextFamily::distilbert}) {
    const auto tower = filled(small_bert(family));
    tower->forward(texts.ids, texts.mask, {}).pow(3).sum().backward();
    for (const auto& parameter : tower->named_parameters()) {
      ASSERT_TRUE(parameter.value().grad().defined()) << parameter.key();
      EXPECT_GT(parameter.value().grad().abs().max().item<float>(), 0) << parameter.key();
    }
  }
}

TEST(Bert, RefusesTextsThatAreTooLong) {
  const auto tower = filled(small_bert());
  EXPECT_NO_THROW(tower->forward(Texts(12).ids, Texts(12).mask, {}));
  EXPECT_THROW(tower->forward(Texts(13).ids, Texts(13).mask, {}), Error);
}

TEST(Bert, RefusesMasksThatDoNotFit) {
  const auto tower = filled(small_bert());
  const Texts texts(6);
  EXPECT_THROW(tower->forward(texts.ids, texts.mask.narrow(1, 0, 5), {}), Error);
  EXPECT_THROW(tower->forward(texts.ids, texts.mask.to(at::kLong), {}), Error);
}

TEST(Bert, RefusesSizesThatCannotBe) {
  auto config = small_bert();
  config.vocab_size = 0;
  EXPECT_THROW(make_text_backbone(config), UsageError);
  config = small_bert();
  config.pad_token_id = 30;
  EXPECT_THROW(make_text_backbone(config), UsageError);
  config = small_bert();
  config.num_attention_heads = 5;
  EXPECT_THROW(make_text_backbone(config), UsageError);
  config = small_bert();
  config.hidden_dropout = 1.0;
  EXPECT_THROW(make_text_backbone(config), UsageError);
}

/// What a tower gives for row 0 of `ids`, with `padding` more columns of padding behind.
at::Tensor feature_of(const TextBackbone& tower, const at::Tensor& ids, std::int64_t padding) {
  const at::Tensor padded = at::constant_pad_nd(ids, {0, padding}, 0);
  return tower.forward(padded, padded.ne(0), {});
}

TextConfig mobilebert() {
  auto config = small_bert(TextFamily::mobilebert);
  config.mobilebert.embedding_size = 6;
  config.mobilebert.intra_bottleneck_size = 6;
  config.mobilebert.num_feedforward_networks = 2;
  config.num_attention_heads = 2;
  return config;
}

TEST(MobileBert, DependsOnThePaddingOnlyUntilItHasOneColumn) {
  const auto tower = filled(mobilebert());
  const at::Tensor ids = at::tensor({1, 5, 7, 2}, at::kLong).unsqueeze(0);
  const at::Tensor one = feature_of(*tower, ids, 1);
  EXPECT_TRUE(at::allclose(feature_of(*tower, ids, 4), one, 1e-5, 1e-6));
  EXPECT_EQ(min_padding(mobilebert()), 1);
  EXPECT_EQ(longest_text(mobilebert()), mobilebert().max_position_embeddings - 1);
  EXPECT_EQ(min_padding(small_bert()), 0);
}

TEST(MobileBert, NamesCoverEveryParameterOnceInEveryVariant) {
  for (const bool bottleneck : {true, false}) {
    for (const bool shared : {true, false}) {
      auto config = mobilebert();
      config.mobilebert.use_bottleneck = bottleneck;
      config.mobilebert.use_bottleneck_attention = !shared;
      config.mobilebert.key_query_shared_bottleneck = shared;
      config.mobilebert.normalization_type = shared ? "no_norm" : "layer_norm";
      if (!bottleneck) config.mobilebert.intra_bottleneck_size = config.hidden_size;
      const auto tower = make_text_backbone(config);
      expect_covers_parameters_once(*tower, tower->named_weights());
    }
  }
}

TEST(MobileBert, RefusesSizesThatCannotBe) {
  auto config = mobilebert();
  config.mobilebert.intra_bottleneck_size = 5;
  EXPECT_THROW(make_text_backbone(config), UsageError);
  config = mobilebert();
  config.mobilebert.normalization_type = "batch_norm";
  EXPECT_THROW(make_text_backbone(config), UsageError);
}

TEST(Roberta, CountsPositionsFromBehindThePaddingIndex) {
  auto config = small_bert(TextFamily::roberta);
  config.pad_token_id = 1;
  const auto tower = filled(config);
  const at::Tensor ids = at::tensor({0, 5, 7, 2, 1, 1}, at::kLong).unsqueeze(0);
  const at::Tensor mask = ids.ne(1);
  EXPECT_TRUE(at::allclose(tower->forward(ids, mask, {}), tower->forward(ids.narrow(1, 0, 4), mask.narrow(1, 0, 4), {}),
                           1e-5, 1e-6));
  EXPECT_EQ(longest_text(config), config.max_position_embeddings - 2);
  const at::Tensor long_ids = at::full({1, config.max_position_embeddings - 1}, 5, at::kLong);
  EXPECT_THROW(tower->forward(long_ids, long_ids.ne(1), {}), Error);
}

TEST(CustomText, NormalisesBehindItsLastLayer) {
  auto config = small_bert(TextFamily::custom_text);
  const auto tower = filled(config);
  const auto counted = make_text_backbone(config);
  expect_covers_parameters_once(*counted, counted->named_weights());
  const at::Tensor ids = at::tensor({1, 5, 7, 2}, at::kLong).unsqueeze(0);
  const at::Tensor feature = tower->forward(ids, ids.ne(0), {});
  EXPECT_NEAR(feature.mean().item<double>(), 0, 1e-4);  // a fresh layer norm has scale 1 and shift 0
  EXPECT_NEAR(feature.square().mean().item<double>(), 1, 1e-2);
  EXPECT_TRUE(at::allclose(tower->forward_features(ids, ids.ne(0), {}).select(1, 0), feature, 1e-5, 1e-6));
}

}  // namespace
}  // namespace mmkd
