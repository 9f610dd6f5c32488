#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <vector>

#include "mmkd/base/error.h"
#include "mmkd/nn/cpu_kernels.h"
#include "mmkd/nn/dropout.h"
#include "mmkd/nn/gelu.h"
#include "mmkd/nn/init.h"
#include "mmkd/nn/packed_attention.h"
#include "mmkd/nn/residual_norm.h"
#include "mmkd/nn/token_layout.h"
#include "mmkd/nn/transformer.h"
#include "tests/support/largest_difference.h"

namespace mmkd::nn {
namespace {

at::Tensor mask_of(const std::vector<std::int64_t>& lengths, std::int64_t padded) {
  const at::Tensor length = at::tensor(lengths, at::kLong).unsqueeze(1);
  return at::arange(padded, at::kLong).unsqueeze(0).lt(length);
}

TEST(TokenLayout, PacksAndUnpacks) {
  const auto layout = TokenLayout::of_mask(mask_of({3, 1, 4}, 5));
  ASSERT_TRUE(layout);
  EXPECT_EQ(layout->tokens(), 8);
  EXPECT_EQ(layout->samples(), 3);
  const at::Tensor padded = at::arange(15, at::kFloat).view({3, 5, 1});
  const at::Tensor packed = layout->pack(padded);
  EXPECT_TRUE(at::equal(packed.flatten(), at::tensor({0.F, 1.F, 2.F, 5.F, 10.F, 11.F, 12.F, 13.F})));
  EXPECT_TRUE(at::equal(layout->unpack(packed), padded * mask_of({3, 1, 4}, 5).unsqueeze(2)));
  EXPECT_TRUE(at::equal(layout->first(packed).flatten(), at::tensor({0.F, 5.F, 10.F})));
  EXPECT_TRUE(at::equal(layout->positions(), at::tensor({0, 1, 2, 0, 0, 1, 2, 3}, at::kLong)));
}

TEST(TokenLayout, RoundsRowsUpByAtMostAnEighth) {
  for (const std::int64_t last : {1, 3, 31, 32, 33, 100, 250}) {
    const auto layout = *TokenLayout::of_mask(mask_of({250, last, 200}, 256));
    EXPECT_GE(layout.rows(), layout.tokens());
    EXPECT_LE(8 * (layout.rows() - layout.tokens()), layout.tokens());
    const at::Tensor padded = at::randn({3, 256, 2});
    EXPECT_TRUE(at::equal(layout.unpack(layout.pack(padded)), padded * mask_of({250, last, 200}, 256).unsqueeze(2)));
  }
}

TEST(TokenLayout, RefusesMasksWithHolesOrWithoutTokens) {
  at::Tensor mask = mask_of({3, 2}, 4);
  mask[0][0] = false;
  EXPECT_FALSE(TokenLayout::of_mask(mask));
  EXPECT_FALSE(TokenLayout::of_mask(mask_of({3, 0}, 4)));
}

TEST(TokenLayout, OfLengthsIsThatOfTheMaskWithoutSpareRows) {
  const std::vector<std::int64_t> lengths{7, 1, 30, 12, 30};
  const auto by_mask = *TokenLayout::of_mask(mask_of(lengths, 31));
  const auto by_length = TokenLayout::of_lengths(at::tensor(lengths, at::kLong), 31, at::kCPU);
  const std::int64_t tokens = by_mask.tokens();
  EXPECT_EQ(by_length.tokens(), tokens);
  EXPECT_EQ(by_length.rows(), tokens);
  EXPECT_EQ(by_length.padded(), 31);
  EXPECT_TRUE(at::equal(by_length.offsets(), by_mask.offsets()));
  EXPECT_TRUE(at::equal(by_length.device_offsets(), by_mask.offsets().to(at::kInt)));
  EXPECT_FALSE(by_mask.device_offsets().defined());
  const at::Tensor padded = at::randn({5, 31, 2});
  const at::Tensor packed = by_length.pack(padded);
  EXPECT_TRUE(at::equal(packed, by_mask.pack(padded).narrow(0, 0, tokens)));
  EXPECT_TRUE(at::equal(by_length.unpack(packed), by_mask.unpack(by_mask.pack(padded))));
  EXPECT_TRUE(at::equal(by_length.first(packed), by_mask.first(packed)));
  EXPECT_TRUE(at::equal(by_length.positions(), by_mask.positions().narrow(0, 0, tokens)));
}

TEST(TokenLayout, RefusesLengthsThatDoNotFit) {
  for (const std::int64_t wrong : {0, 6}) {
    const auto make = [&] {
      return TokenLayout::of_lengths(at::tensor({std::int64_t{3}, wrong}, at::kLong), 5, at::kCPU);
    };
    EXPECT_THROW(make(), Error) << wrong;
  }
}

TEST(PackedDropout, GivesPaddedTokensBits) {
  at::manual_seed(1);
  const at::Tensor mask = mask_of({7, 1, 200, 33}, 200);
  const auto layout = TokenLayout::of_mask(mask);
  const ForwardContext context{
      .training = true, .seed = 3, .step = 5, .sample_keys = at::tensor({11, 12, 13, 14}, at::kLong)};
  for (const auto type : {at::kFloat, at::kBFloat16}) {
    const at::Tensor x = at::randn({4, 200, 24}).to(type);
    const at::Tensor padded = keyed_dropout(x, 0.3, 9, context);
    const at::Tensor packed = keyed_dropout(layout->pack(x), *layout, 0.3, 9, context);
    EXPECT_TRUE(at::equal(packed.narrow(0, 0, layout->tokens()), layout->pack(padded).narrow(0, 0, layout->tokens())));
    EXPECT_EQ(packed.narrow(0, layout->tokens(), layout->rows() - layout->tokens()).abs().sum().item<float>(), 0);
  }
}

class PackedAttention : public testing::TestWithParam<at::ScalarType> {
 protected:
  void SetUp() override {
    if (!packed_attention_runs(at::zeros({1}, GetParam()), 16, 1))
      GTEST_SKIP() << "this machine has no instructions for it";
    at::manual_seed(7);
  }
  double tolerance() const { return GetParam() == at::kFloat ? 2e-5 : 2e-2; }
};

/// softmax(QKᵀ/√d)V of one sample in float64: q [N, D], k and v [M, D].
at::Tensor reference(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, std::int64_t heads) {
  const auto split = [&](const at::Tensor& x) { return x.to(at::kDouble).unflatten(1, {heads, -1}).transpose(0, 1); };
  const at::Tensor query = split(q);
  const at::Tensor scores = at::matmul(query, split(k).transpose(1, 2)) / std::sqrt(static_cast<double>(query.size(2)));
  return at::matmul(at::softmax(scores, -1), split(v)).transpose(0, 1).flatten(1);
}

TEST_P(PackedAttention, AgreesWithFloat64ForwardAndBackward) {
  for (const auto& [width, heads] :
       std::vector<std::pair<std::int64_t, std::int64_t>>{{64, 1}, {96, 2}, {64, 4}, {128, 1}}) {
    const std::vector<std::int64_t> lengths{1, 2, 17, 64, 197, 25};
    const auto layout = *TokenLayout::of_mask(mask_of(lengths, 197));
    const at::Tensor qkv = at::randn({layout.rows(), 3 * width}).to(GetParam()).requires_grad_(true);
    const at::Tensor upstream = at::randn({layout.rows(), width}).to(GetParam());
    const at::Tensor output = packed_self_attention(qkv, layout, heads);
    output.backward(upstream);
    const at::Tensor exact = qkv.detach().to(at::kDouble).requires_grad_(true);
    std::vector<at::Tensor> parts;
    for (std::int64_t b = 0; b < layout.samples(); ++b) {
      const auto rows = exact.slice(0, layout.offsets_data()[b], layout.offsets_data()[b + 1]).chunk(3, 1);
      parts.push_back(reference(rows[0], rows[1], rows[2], heads));
    }
    parts.push_back(at::zeros({layout.rows() - layout.tokens(), width}, at::kDouble));
    const at::Tensor expected = at::cat(parts);
    expected.backward(upstream.to(at::kDouble));
    EXPECT_LT(largest_difference(output.detach(), expected.detach()), tolerance()) << width << " / " << heads;
    EXPECT_LT(largest_difference(qkv.grad(), exact.grad()), tolerance()) << width << " / " << heads;
  }
}

/// What devices without a kernel of ours get.
TEST_P(PackedAttention, AgreesWithFloat64WithoutTheKernel) {
  const NoCpuKernels none;
  const std::vector<std::int64_t> lengths{1, 2, 17, 64, 197, 25};
  const auto layout = TokenLayout::of_lengths(at::tensor(lengths, at::kLong), 200, at::kCPU);
  const at::Tensor qkv = at::randn({layout.rows(), 3 * 64}).to(GetParam()).requires_grad_(true);
  const at::Tensor upstream = at::randn({layout.rows(), 64}).to(GetParam());
  const at::Tensor output = packed_self_attention(qkv, layout, 2);
  const at::Tensor first =
      packed_attention(layout.first(qkv.slice(1, 0, 64)), TokenLayout::uniform(6, 1), qkv.slice(1, 64, 192), layout, 2);
  EXPECT_LT(largest_difference(first.detach(), layout.first(output.detach())), tolerance());
  output.backward(upstream);
  const at::Tensor exact = qkv.detach().to(at::kDouble).requires_grad_(true);
  std::vector<at::Tensor> parts;
  for (std::int64_t b = 0; b < layout.samples(); ++b) {
    const auto rows = exact.slice(0, layout.offsets_data()[b], layout.offsets_data()[b + 1]).chunk(3, 1);
    parts.push_back(reference(rows[0], rows[1], rows[2], 2));
  }
  const at::Tensor expected = at::cat(parts);
  expected.backward(upstream.to(at::kDouble));
  EXPECT_LT(largest_difference(output.detach(), expected.detach()), tolerance());
  EXPECT_LT(largest_difference(qkv.grad(), exact.grad()), tolerance());
  EXPECT_THROW(packed_self_attention(qkv, *TokenLayout::of_mask(mask_of(lengths, 200)), 2), Error);
}

TEST_P(PackedAttention, ASampleDoesNotSeeTheOthers) {
  const auto layout = *TokenLayout::of_mask(mask_of({5, 40, 3}, 40));
  const at::Tensor qkv = at::randn({layout.rows(), 96}).to(GetParam());
  const at::Tensor all = packed_self_attention(qkv, layout, 2);
  const at::Tensor alone = packed_self_attention(qkv.slice(0, 5, 45), TokenLayout::uniform(1, 40), 2);
  EXPECT_TRUE(at::equal(all.slice(0, 5, 45), alone));
}

TEST_P(PackedAttention, FirstTokensAskAlone) {
  const auto layout = *TokenLayout::of_mask(mask_of({5, 40, 3}, 40));
  const at::Tensor qkv = at::randn({layout.rows(), 96}).to(GetParam()).requires_grad_(true);
  const at::Tensor all = layout.first(packed_self_attention(qkv, layout, 2));
  const at::Tensor first =
      packed_attention(layout.first(qkv.slice(1, 0, 32)), TokenLayout::uniform(3, 1), qkv.slice(1, 32, 96), layout, 2);
  EXPECT_LT(largest_difference(first.detach(), all.detach()), tolerance());
  const at::Tensor upstream = at::randn_like(all);
  const at::Tensor of_all = torch::autograd::grad({all}, {qkv}, {upstream})[0];
  const at::Tensor of_first = torch::autograd::grad({first}, {qkv}, {upstream})[0];
  EXPECT_LT(largest_difference(of_first, of_all), tolerance());
}

TEST_P(PackedAttention, RowsBehindTheTokensReachNothing) {
  const auto layout = *TokenLayout::of_mask(mask_of({17, 50}, 50));
  ASSERT_GT(layout.rows(), layout.tokens());
  at::Tensor qkv = at::randn({layout.rows(), 96}).to(GetParam());
  qkv.narrow(0, layout.tokens(), layout.rows() - layout.tokens()).fill_(std::nan(""));
  qkv.requires_grad_(true);
  const at::Tensor output = packed_self_attention(qkv, layout, 2);
  EXPECT_TRUE(at::isfinite(output).all().item<bool>());
  output.sum().backward();
  EXPECT_TRUE(at::isfinite(qkv.grad()).all().item<bool>());
}

TEST_P(PackedAttention, WhatIsNotANumberSpreadsWithinItsSampleOnly) {
  constexpr std::int64_t kWidth = 32;
  const auto layout = *TokenLayout::of_mask(mask_of({20, 50}, 50));
  for (std::int64_t part = 0; part < 3; ++part) {  // query, key, value of one token
    at::Tensor qkv = at::randn({layout.rows(), 3 * kWidth}).to(GetParam());
    qkv[3][part * kWidth + 5] = std::nan("");
    qkv.requires_grad_(true);
    const at::Tensor output = packed_self_attention(qkv, layout, 2);
    const auto has_nan = [](const at::Tensor& x, std::int64_t first, std::int64_t count) {
      return at::isnan(x.detach().narrow(0, first, count)).any().item<bool>();
    };
    EXPECT_TRUE(has_nan(output, 0, 20)) << part;
    EXPECT_FALSE(has_nan(output, 20, 50)) << part;
    output.sum().backward();
    EXPECT_TRUE(has_nan(qkv.grad(), 0, 20)) << part;
    EXPECT_FALSE(has_nan(qkv.grad(), 20, 50)) << part;
  }
}

/// The layer norm of residual + branch by torch, float64.
class ResidualNorm : public testing::TestWithParam<at::ScalarType> {
 protected:
  void SetUp() override {
    if (!cpu_kernels_run(GetParam())) GTEST_SKIP() << "this machine has no instructions for it";
    at::manual_seed(7);
    for (auto& p : norm_.parameters()) p.data().normal_(1, 0.5);
  }
  static constexpr std::int64_t kRows = 150, kWidth = 48;
  LayerNorm norm_{kWidth, 1e-5};
};

TEST_P(ResidualNorm, AgreesWithFloat64ForwardAndBackward) {
  const double tolerance = GetParam() == at::kFloat ? 1e-5 : 2e-2;
  for (const auto keep : {Keep::sum, Keep::normed}) {
    for (const bool with_branch : {true, false}) {
      const at::Tensor residual = at::randn({kRows, kWidth}).requires_grad_(true);
      const at::Tensor branch =
          with_branch ? at::randn({kRows, kWidth}).to(GetParam()).requires_grad_(true) : at::Tensor();
      const auto out = residual_norm(residual, branch, norm_, keep, GetParam());
      const at::Tensor kept = keep == Keep::sum ? out.sum : out.normed_float;
      ASSERT_EQ(out.normed.scalar_type(), GetParam());
      ASSERT_EQ(kept.scalar_type(), at::kFloat);
      const at::Tensor up = at::randn({kRows, kWidth}).to(GetParam()), up_kept = at::randn({kRows, kWidth});
      const auto exact = [](const at::Tensor& x) { return x.detach().to(at::kDouble).requires_grad_(true); };
      std::vector<at::Tensor> inputs{residual, norm_.weight, norm_.bias};
      if (with_branch) inputs.push_back(branch);
      std::vector<at::Tensor> exact_inputs;
      for (const auto& x : inputs) exact_inputs.push_back(exact(x));
      const at::Tensor sum = with_branch ? exact_inputs[0] + exact_inputs[3] : exact_inputs[0];
      const at::Tensor normed = at::layer_norm(sum, {kWidth}, exact_inputs[1], exact_inputs[2], 1e-5);
      const at::Tensor expected_kept = keep == Keep::sum ? sum : normed;
      EXPECT_LT(largest_difference(out.normed.detach(), normed.detach()), tolerance);
      EXPECT_LT(largest_difference(kept.detach(), expected_kept.detach()), 1e-5);
      const auto found = torch::autograd::grad({out.normed, kept}, inputs, {up, up_kept});
      const auto expected =
          torch::autograd::grad({normed, expected_kept}, exact_inputs, {up.to(at::kDouble), up_kept.to(at::kDouble)});
      for (std::size_t i = 0; i < found.size(); ++i)
        EXPECT_LT(largest_difference(found[i], expected[i]), tolerance) << i << (with_branch ? " with branch" : "");
    }
  }
}

TEST_P(ResidualNorm, ByOperatorsIsTheSame) {
  const at::Tensor residual = at::randn({kRows, kWidth}), branch = at::randn({kRows, kWidth}).to(GetParam());
  for (const auto keep : {Keep::sum, Keep::normed}) {
    const auto by_kernel = residual_norm(residual, branch, norm_, keep, GetParam());
    const NoCpuKernels none;
    const auto by_operators = residual_norm(residual, branch, norm_, keep, GetParam());
    ASSERT_EQ(by_operators.normed.scalar_type(), GetParam());
    EXPECT_LT(largest_difference(by_operators.normed, by_kernel.normed), GetParam() == at::kFloat ? 1e-5 : 2e-2);
    ASSERT_EQ(by_operators.sum.defined(), by_kernel.sum.defined());
    ASSERT_EQ(by_operators.normed_float.defined(), by_kernel.normed_float.defined());
    const at::Tensor kept = keep == Keep::sum ? by_operators.sum : by_operators.normed_float;
    EXPECT_EQ(kept.scalar_type(), at::kFloat);
    EXPECT_LT(largest_difference(kept, keep == Keep::sum ? by_kernel.sum : by_kernel.normed_float), 1e-5);
  }
}

TEST_P(ResidualNorm, DoesNotDependOnTheNumberOfThreads) {
  const at::Tensor residual = at::randn({kRows, kWidth}).requires_grad_(true),
                   branch = at::randn({kRows, kWidth}).to(GetParam());
  const auto gradients = [&] {
    const auto out = residual_norm(residual, branch, norm_, Keep::sum, GetParam());
    return torch::autograd::grad({out.normed.to(at::kFloat).square().sum() + out.sum.square().sum()},
                                 {residual, norm_.weight, norm_.bias});
  };
  const int threads = at::get_num_threads();
  const auto many = gradients();
  at::set_num_threads(1);
  const auto one = gradients();
  at::set_num_threads(threads);
  for (std::size_t i = 0; i < one.size(); ++i) EXPECT_TRUE(at::equal(one[i], many[i]));
}

TEST_P(ResidualNorm, GeluAgreesWithTorch) {
  const at::Tensor x = (at::randn({1003}) * 4).to(GetParam()).requires_grad_(true);
  const at::Tensor up = at::randn({1003}).to(GetParam());
  const at::Tensor exact = x.detach().to(at::kDouble).requires_grad_(true);
  const at::Tensor y = fast_gelu(x), expected = at::gelu(exact);
  EXPECT_LT(largest_difference(y.detach(), expected.detach()), GetParam() == at::kFloat ? 3e-7 : 4e-3);
  const auto found = torch::autograd::grad({y}, {x}, {up})[0];
  const auto wanted = torch::autograd::grad({expected}, {exact}, {up.to(at::kDouble)})[0];
  EXPECT_LT(largest_difference(found, wanted), GetParam() == at::kFloat ? 3e-7 : 4e-3);
}

INSTANTIATE_TEST_SUITE_P(Types, ResidualNorm, testing::Values(at::kFloat, at::kBFloat16),
                         [](const auto& type) { return std::string(c10::toString(type.param)); });

INSTANTIATE_TEST_SUITE_P(Types, PackedAttention, testing::Values(at::kFloat, at::kBFloat16),
                         [](const auto& type) { return std::string(c10::toString(type.param)); });

/// Packed against padded tokens, with dropout, forward and backward; `layout`: of texts of 9, 30 and 1 tokens.
void expect_packed_agrees(NormPlacement norm, const TokenLayout& layout) {
  at::manual_seed(3);
  Transformer transformer({.width = 64,
                           .layers = 3,
                           .heads = 2,
                           .intermediate = 96,
                           .norm = norm,
                           .attention_output_dropout = 0.1,
                           .activation_dropout = 0.1,
                           .output_dropout = 0.1},
                          "test");
  for (auto& p : transformer.parameters()) p.data().normal_(0, 0.2);
  assign_dropout_ids(transformer);
  const at::Tensor mask = mask_of({9, 30, 1}, 30);
  const ForwardContext context{.training = true, .seed = 3, .step = 5, .sample_keys = at::tensor({1, 2, 3}, at::kLong)};
  const at::Tensor x = at::randn({3, 30, 64});
  const auto gradients = [&](const at::Tensor& y, const at::Tensor& input) {
    auto inputs = transformer.parameters();
    inputs.push_back(input);
    return torch::autograd::grad({(y * y).sum()}, inputs);
  };
  const at::Tensor padded_in = x.clone().requires_grad_(true), packed_in = x.clone().requires_grad_(true);
  const at::Tensor padded = transformer.forward_first(padded_in, mask.unsqueeze(1).unsqueeze(1), context);
  const at::Tensor packed = transformer.forward_first(layout.pack(packed_in), layout, context);
  EXPECT_LT(largest_difference(packed.detach(), padded.detach()), 2e-5);
  const auto expected = gradients(padded, padded_in), found = gradients(packed, packed_in);
  for (std::size_t i = 0; i < expected.size(); ++i) EXPECT_LT(largest_difference(found[i], expected[i]), 1e-4) << i;
  const at::Tensor padding = mask.unsqueeze(2);
  const at::Tensor whole = transformer.forward(x, mask.unsqueeze(1).unsqueeze(1), context) * padding;
  const at::Tensor by_packed = layout.unpack(transformer.forward(layout.pack(x), layout, context));
  EXPECT_LT(largest_difference(by_packed.detach(), whole.detach()), 2e-5);
}

constexpr NormPlacement kNorms[] = {NormPlacement::before, NormPlacement::after};

TEST(PackedTransformer, AgreesWithPaddedTokens) {
  if (!packed_attention_runs(at::zeros({1}), 64, 2)) GTEST_SKIP() << "this machine has no instructions for it";
  for (const auto norm : kNorms) expect_packed_agrees(norm, *TokenLayout::of_mask(mask_of({9, 30, 1}, 30)));
}

TEST(PackedTransformer, AgreesWithPaddedTokensWithoutKernels) {
  const NoCpuKernels none;
  const auto layout = TokenLayout::of_lengths(at::tensor({9, 30, 1}, at::kLong), 30, at::kCPU);
  for (const auto norm : kNorms) expect_packed_agrees(norm, layout);
}

}  // namespace
}  // namespace mmkd::nn
