#include "mmkd/nn/recompute.h"

#include <ATen/autocast_mode.h>
#include <gtest/gtest.h>
#include <torch/autograd.h>

#include "mmkd/nn/transformer.h"

namespace mmkd::nn {
namespace {

struct Graph {
  at::Tensor a = at::linspace(-1, 1, 12).reshape({3, 4}).set_requires_grad(true);
  at::Tensor b = at::linspace(0, 2, 12).reshape({3, 4}).set_requires_grad(true);
  at::Tensor weight = at::linspace(-0.5, 0.5, 16).reshape({4, 4}).set_requires_grad(true);
};

/// The second output is undefined where the second input is, the third one always.
std::vector<at::Tensor> two_of_three(const at::Tensor& weight, const std::vector<at::Tensor>& in) {
  const at::Tensor product = at::gelu(at::mm(in[0], weight));
  return {product, in[1].defined() ? product * in[1] : at::Tensor(), {}};
}

std::vector<at::Tensor> gradients_of(const Graph& graph, bool again, bool with_second) {
  const auto f = [&graph](const std::vector<at::Tensor>& in) { return two_of_three(graph.weight, in); };
  const std::vector<at::Tensor> in{graph.a, with_second ? graph.b : at::Tensor()};
  const auto out = again ? recomputed(f, in) : f(in);
  EXPECT_EQ(out.size(), 3U);
  EXPECT_EQ(out[1].defined(), with_second);
  EXPECT_FALSE(out[2].defined());
  at::Tensor loss = out[0].square().sum();
  if (with_second) loss = loss + out[1].exp().sum();
  loss.backward();
  return {loss.detach(), graph.a.grad(), graph.b.grad(), graph.weight.grad()};
}

TEST(Recomputed, GivesTheSameGradients) {
  for (const bool with_second : {false, true}) {
    const auto expected = gradients_of(Graph(), false, with_second);
    const auto found = gradients_of(Graph(), true, with_second);
    for (std::size_t i = 0; i < expected.size(); ++i) {
      ASSERT_EQ(found[i].defined(), expected[i].defined()) << i;
      if (!found[i].defined()) continue;
      EXPECT_TRUE(found[i].equal(expected[i])) << i;
    }
  }
}

TEST(Recomputed, CallsItAgainInBackwardAlone) {
  const Graph graph;
  int calls = 0;
  bool had_gradients = true;
  const auto f = [&](const std::vector<at::Tensor>& in) {
    ++calls;
    had_gradients = at::GradMode::is_enabled();
    return std::vector{at::mm(in[0], graph.weight)};
  };
  const auto out = recomputed(f, {graph.a});
  EXPECT_EQ(calls, 1);
  EXPECT_FALSE(had_gradients);
  out[0].sum().backward();
  EXPECT_EQ(calls, 2);
  EXPECT_TRUE(had_gradients);
  const at::NoGradGuard no_grad;
  EXPECT_FALSE(recomputed(f, {graph.a})[0].requires_grad());
  EXPECT_EQ(calls, 3);
}

TEST(Recomputed, KeepsTheGradientsOfParametersWhoseInputNeedsNone) {
  const Graph graph;
  const at::Tensor data = graph.a.detach();
  const auto out = recomputed([&](const auto& in) { return std::vector{at::mm(in[0], graph.weight)}; }, {data});
  out[0].sum().backward();
  ASSERT_TRUE(graph.weight.grad().defined());
  EXPECT_TRUE(graph.weight.grad().equal(at::mm(data.t(), at::ones({3, 4}))));
}

TEST(Recomputed, GivesNoGradientsOfWhatReachesNoLoss) {
  const Graph graph;
  const auto f = [&graph](const std::vector<at::Tensor>& in) { return two_of_three(graph.weight, in); };
  const auto out = recomputed(f, {graph.a, graph.b});
  out[0].sum().backward();  // no gradient reaches the second output
  EXPECT_TRUE(graph.a.grad().defined());
  EXPECT_TRUE(!graph.b.grad().defined() || graph.b.grad().eq(0).all().item<bool>());
}

TEST(Recomputed, RunsUnderTheAutocastOfTheForwardPass) {
  const Graph graph;
  std::vector<at::ScalarType> types;
  at::Tensor out;
  const auto f = [&](const std::vector<at::Tensor>& in) {
    const at::Tensor product = at::mm(in[0], graph.weight);
    types.push_back(product.scalar_type());
    return std::vector{product};
  };
  at::autocast::set_autocast_enabled(at::kCPU, true);
  at::autocast::set_autocast_dtype(at::kCPU, at::kBFloat16);
  out = recomputed(f, {graph.a})[0];
  at::autocast::set_autocast_enabled(at::kCPU, false);
  out.sum().backward();
  EXPECT_EQ(types, (std::vector{at::kBFloat16, at::kBFloat16}));
  EXPECT_FALSE(at::autocast::is_autocast_enabled(at::kCPU));
  EXPECT_TRUE(graph.weight.grad().defined());
}

/// Loss and gradients of three layers with dropout, by each way through them.
std::vector<at::Tensor> of_transformer(NormPlacement norm, bool recompute, bool packed, bool first) {
  at::manual_seed(5);
  Transformer transformer({.width = 32,
                           .layers = 3,
                           .heads = 2,
                           .intermediate = 64,
                           .norm = norm,
                           .attention_output_dropout = 0.1,
                           .activation_dropout = 0.1,
                           .output_dropout = 0.1},
                          "test");
  assign_dropout_ids(transformer);
  for (auto& parameter : transformer.parameters()) {
    const at::NoGradGuard no_grad;
    parameter.normal_(0, 0.3);
  }
  const ForwardContext context{
      .training = true, .seed = 3, .step = 7, .sample_keys = at::arange(4, at::kLong), .recompute = recompute};
  const at::Tensor x = at::randn({4, 5, 32}).set_requires_grad(true);
  const at::Tensor mask = at::ones({4, 1, 1, 5}, at::kBool);
  at::Tensor out;
  if (packed) {
    out = first ? transformer.forward_first(x, {}, context) : transformer.forward(x, {}, context);
  } else {
    out = first ? transformer.forward_first(x, mask, context) : transformer.forward(x, mask, context);
  }
  const at::Tensor loss = out.square().sum();
  loss.backward();
  std::vector<at::Tensor> all{loss.detach(), x.grad()};
  for (const auto& parameter : transformer.parameters()) all.push_back(parameter.grad());
  return all;
}

TEST(Recomputed, TransformerLayersGiveTheSameBits) {
  for (const auto norm : {NormPlacement::before, NormPlacement::after}) {
    for (const bool packed : {false, true}) {
      for (const bool first : {false, true}) {
        const auto expected = of_transformer(norm, false, packed, first);
        const auto found = of_transformer(norm, true, packed, first);
        for (std::size_t i = 0; i < expected.size(); ++i) {
          ASSERT_EQ(found[i].defined(), expected[i].defined()) << i;
          if (!found[i].defined()) continue;
          EXPECT_TRUE(found[i].equal(expected[i])) << i << " " << packed << first;
        }
      }
    }
  }
}

}  // namespace
}  // namespace mmkd::nn
