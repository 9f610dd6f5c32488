#include "mmkd/nn/transformer.h"

#include <gtest/gtest.h>

#include <cmath>

#include "mmkd/base/error.h"
#include "tests/support/gradient_check.h"

namespace mmkd::nn {
namespace {

const TransformerNames kNames{
    .attention = {.query = "q.", .key = "k.", .value = "v.", .fused = "", .output = "o."},
    .attention_norm = "norm1.",
    .feed_forward_in = "in.",
    .feed_forward_out = "out.",
    .output_norm = "norm2.",
};

TransformerSpec small(NormPlacement norm, double dropout = 0) {
  return {.width = 12,
          .layers = 2,
          .heads = 3,
          .intermediate = 20,
          .activation = Activation::gelu_erf,
          .norm = norm,
          .layer_norm_eps = 1e-5,
          .qkv_bias = true,
          .attention_output_dropout = dropout,
          .activation_dropout = dropout,
          .output_dropout = dropout};
}

/// With weights large enough that attention is far from uniform.
std::shared_ptr<Transformer> filled(const TransformerSpec& spec) {
  auto transformer = std::make_shared<Transformer>(spec, "test");
  std::vector<WeightEntry> entries;
  transformer->collect_weights("", kNames, InitScheme::hugging_face(0.5), entries);
  initialize(entries, 3);
  assign_dropout_ids(*transformer);
  return transformer;
}

at::Tensor random(at::IntArrayRef shape, std::uint64_t seed = 8) {
  auto generator = at::detail::createCPUGenerator(seed);
  return at::randn(shape, generator, at::kFloat);
}

/// [2, 1, 1, 5]: the second sample has three real tokens.
at::Tensor mask() { return at::tensor({1, 1, 1, 1, 1, 1, 1, 1, 0, 0}, at::kLong).to(at::kBool).view({2, 1, 1, 5}); }

ForwardContext training() {
  return {.training = true, .seed = 1, .step = 2, .sample_keys = at::tensor({5, 6}, at::kLong)};
}

TEST(SelfAttention, EqualsTheTextbookFormula) {
  constexpr std::int64_t kWidth = 6, kHeads = 2, kTokens = 4, kHeadWidth = 3;
  SelfAttention attention(kWidth, kHeads, /*qkv_bias=*/true);
  std::vector<WeightEntry> w;
  attention.collect_weights("", kNames.attention, InitScheme::torch(), w);
  ASSERT_EQ(w.size(), 8U);
  for (std::size_t i = 0; i < w.size(); ++i) w[i].view.copy_(random(w[i].view.sizes(), i));
  const at::Tensor x = random({kTokens, kWidth});
  const at::Tensor q = at::linear(x, w[0].view, w[1].view), k = at::linear(x, w[2].view, w[3].view),
                   v = at::linear(x, w[4].view, w[5].view);
  std::vector<at::Tensor> heads;
  for (std::int64_t h = 0; h < kHeads; ++h) {
    const auto head = [&](const at::Tensor& all) { return all.narrow(1, h * kHeadWidth, kHeadWidth); };
    const at::Tensor scores = head(q).matmul(head(k).t()) / std::sqrt(static_cast<double>(kHeadWidth));
    heads.push_back(at::softmax(scores, 1).matmul(head(v)));
  }
  const at::Tensor expected = at::linear(at::cat(heads, 1), w[6].view, w[7].view);
  EXPECT_TRUE(at::allclose(attention.forward(x.unsqueeze(0), {})[0], expected, 1e-5, 1e-5));
}

TEST(SelfAttention, NamesTheThirdsOfItsFusedParameter) {
  SelfAttention attention(4, 2, true);
  std::vector<WeightEntry> split, fused;
  attention.collect_weights("a.", kNames.attention, InitScheme::torch(), split);
  attention.collect_weights("a.", {.query = "", .key = "", .value = "", .fused = "in_proj_", .output = "out_proj."},
                            InitScheme::torch(), fused);
  ASSERT_EQ(split.size(), 8U);
  ASSERT_EQ(fused.size(), 4U);
  EXPECT_EQ(split[2].name, "a.k.weight");
  EXPECT_EQ(fused[0].name, "a.in_proj_weight");
  EXPECT_EQ(fused[1].name, "a.in_proj_bias");
  fused[0].view.copy_(random({12, 4}));
  EXPECT_TRUE(at::equal(split[2].view, fused[0].view.narrow(0, 4, 4)));
}

TEST(SelfAttention, GradientsAreFoundByTheNamesOfTheThirds) {
  SelfAttention attention(4, 2, true);
  std::vector<WeightEntry> entries;
  attention.collect_weights("", kNames.attention, InitScheme::hugging_face(0.5), entries);
  initialize(entries, 1);
  EXPECT_FALSE(gradient(entries[0]).defined());
  attention.forward(random({1, 3, 4}), {}).pow(2).sum().backward();
  for (const auto& entry : entries) {
    ASSERT_TRUE(gradient(entry).defined()) << entry.name;
    EXPECT_EQ(gradient(entry).sizes(), entry.view.sizes()) << entry.name;
  }
  EXPECT_TRUE(at::equal(gradient(entries[2]), entries[2].parameter.grad().narrow(0, 4, 4)));
  // Softmax ignores what is added to all scores of a row, so key biases have no gradient.
  EXPECT_LT(gradient(entries[3]).abs().max().item<float>(), 1e-5);
  EXPECT_GT(gradient(entries[1]).abs().max().item<float>(), 1e-3);
}

TEST(Transformer, MaskedTokensHaveNoInfluence) {
  const auto transformer = filled(small(NormPlacement::after));
  const at::Tensor x = random({2, 5, 12});
  at::Tensor changed = x.clone();
  changed[1].narrow(0, 3, 2).fill_(7);
  const at::Tensor y = transformer->forward(x, mask(), {});
  const at::Tensor z = transformer->forward(changed, mask(), {});
  EXPECT_TRUE(at::allclose(y[0], z[0]));
  EXPECT_TRUE(at::allclose(y[1].narrow(0, 0, 3), z[1].narrow(0, 0, 3)));
  EXPECT_FALSE(at::allclose(transformer->forward(x, {}, {})[1], transformer->forward(changed, {}, {})[1]));
}

TEST(Transformer, TheFirstTokenAloneEqualsTheFirstOfAll) {
  for (const auto norm : {NormPlacement::before, NormPlacement::after}) {
    const auto transformer = filled(small(norm, 0.2));
    const at::Tensor x = random({2, 5, 12});
    for (const auto& context : {ForwardContext(), training()}) {
      for (const auto& seen : {at::Tensor(), mask()}) {
        const at::Tensor all = transformer->forward(x, seen, context).select(1, 0);
        const at::Tensor first = transformer->forward_first(x, seen, context);
        EXPECT_TRUE(at::allclose(first, all, 1e-5, 1e-6));
      }
    }
  }
}

TEST(Transformer, TheFirstTokenAloneGivesTheGradientsOfTheFirstOfAll) {
  const at::Tensor x = random({2, 5, 12});
  const at::Tensor g = random({2, 12}, 9);
  for (const auto norm : {NormPlacement::before, NormPlacement::after}) {
    const auto one = filled(small(norm, 0.2));
    const auto other = filled(small(norm, 0.2));
    (one->forward(x, mask(), training()).select(1, 0) * g).sum().backward();
    (other->forward_first(x, mask(), training()) * g).sum().backward();
    for (const auto& parameter : one->named_parameters()) {
      const at::Tensor other_gradient = other->named_parameters().find(parameter.key())->grad();
      EXPECT_TRUE(at::allclose(parameter.value().grad(), other_gradient, 1e-4, 1e-5)) << parameter.key();
    }
  }
}

TEST(Transformer, DropoutChangesTrainingOnly) {
  const auto transformer = filled(small(NormPlacement::after, 0.3));
  const at::Tensor x = random({2, 5, 12});
  const at::Tensor evaluated = transformer->forward(x, {}, {});
  EXPECT_TRUE(at::equal(evaluated, filled(small(NormPlacement::after))->forward(x, {}, {})));
  EXPECT_FALSE(at::allclose(evaluated, transformer->forward(x, {}, training())));
  EXPECT_TRUE(at::equal(transformer->forward(x, {}, training()), transformer->forward(x, {}, training())));
}

TEST(Transformer, GradientsMatchFiniteDifferences) {
  for (const auto norm : {NormPlacement::before, NormPlacement::after}) {
    const auto transformer = filled(small(norm, 0.2));
    transformer->to(at::kDouble);
    const at::Tensor x = random({2, 5, 12}).to(at::kDouble);
    const at::Tensor g = random({2, 5, 12}, 9).to(at::kDouble);
    const auto f = [&] { return (transformer->forward(x, mask(), training()) * g).sum(); };
    for (const auto& parameter : transformer->named_parameters()) {
      for (const auto& other : transformer->parameters()) other.mutable_grad() = at::Tensor();
      expect_gradient_matches_differences(parameter.value(), f, parameter.key(), 3);
    }
  }
}

TEST(Transformer, WithoutLayersPassesItsInput) {
  auto spec = small(NormPlacement::after);
  spec.layers = 0;
  const Transformer transformer(spec, "test");
  const at::Tensor x = random({2, 5, 12});
  EXPECT_TRUE(at::equal(transformer.forward(x, {}, {}), x));
  EXPECT_TRUE(at::equal(transformer.forward_first(x, {}, {}), x.select(1, 0)));
}

TEST(Transformer, RefusesSizesThatCannotBe) {
  auto spec = small(NormPlacement::after);
  spec.heads = 5;
  EXPECT_THROW(Transformer(spec, "test"), UsageError);
  spec.heads = 0;
  EXPECT_THROW(Transformer(spec, "test"), UsageError);
}

TEST(Activation, HasTheValuesOfItsDefinition) {
  const at::Tensor x = at::tensor({-1.0, 0.0, 1.0}, at::kDouble);
  // x · Φ(x), Φ(1) = 0.8413447460685429
  EXPECT_NEAR(activate(Activation::gelu_erf, x)[2].item<double>(), 0.8413447460685429, 1e-12);
  EXPECT_NEAR(activate(Activation::gelu_erf, x)[0].item<double>(), -0.1586552539314571, 1e-12);
  // x/2 · (1 + tanh(√(2/π) (x + 0.044715 x³)))
  EXPECT_NEAR(activate(Activation::gelu_tanh, x)[2].item<double>(), 0.8411919906082768, 1e-12);
  EXPECT_EQ(activate(Activation::relu, x)[0].item<double>(), 0);
  EXPECT_EQ(activate(Activation::relu, x)[2].item<double>(), 1);
}

TEST(Activation, NamesAreThoseOfHuggingFace) {
  EXPECT_EQ(activation_from_name("gelu", "here"), Activation::gelu_erf);
  EXPECT_EQ(activation_from_name("gelu_new", "here"), Activation::gelu_tanh);
  EXPECT_EQ(activation_from_name("gelu_pytorch_tanh", "here"), Activation::gelu_tanh);
  EXPECT_EQ(activation_from_name("relu", "here"), Activation::relu);
  try {
    activation_from_name("gleu", "here");
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("here: activation 'gleu'"), std::string::npos);
  }
}

}  // namespace
}  // namespace mmkd::nn
