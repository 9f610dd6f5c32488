#include "mmkd/nn/linear.h"

#include <ATen/autocast_mode.h>
#include <gtest/gtest.h>
#include <torch/autograd.h>

#include <optional>
#include <vector>

#include "mmkd/nn/activation.h"
#include "tests/support/largest_difference.h"

namespace mmkd::nn {
namespace {

/// bfloat16 on the CPU, as AutocastGuard sets it for training.
class Autocast {
 public:
  Autocast() : before_(at::autocast::is_autocast_enabled(at::kCPU)) {
    at::autocast::set_autocast_dtype(at::kCPU, at::kBFloat16);
    at::autocast::set_autocast_enabled(at::kCPU, true);
  }
  Autocast(const Autocast&) = delete;
  Autocast& operator=(const Autocast&) = delete;
  ~Autocast() {
    at::autocast::set_autocast_enabled(at::kCPU, before_);
    at::autocast::clear_cache();
  }

 private:
  bool before_;
};

struct Case {
  std::vector<std::int64_t> x_sizes;
  std::int64_t outputs;
  bool with_bias;
};

class LinearTest : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    at::manual_seed(5);
    const auto& [sizes, outputs, with_bias] = GetParam();
    x_ = at::randn(sizes);
    weight_ = at::randn({outputs, sizes.back()}) * 0.2;
    if (with_bias) bias_ = at::randn({outputs});
  }
  at::Tensor x_, weight_, bias_;
};

constexpr double kBfloat16 = 1.0 / 128;

TEST_P(LinearTest, AgreesWithFloat64ForwardAndBackward) {
  for (const auto type : {at::kFloat, at::kBFloat16}) {
    const auto leaf = [](const at::Tensor& t) { return t.defined() ? t.detach().clone().requires_grad_(true) : t; };
    const at::Tensor x = leaf(x_.to(type)), weight = leaf(weight_), bias = leaf(bias_);
    at::Tensor y;
    {
      const Autocast autocast;
      y = linear(x, weight, bias);
    }
    EXPECT_EQ(y.scalar_type(), at::kBFloat16);
    const auto exact = [](const at::Tensor& t) {
      return t.defined() ? t.detach().to(at::kBFloat16).to(at::kDouble).requires_grad_(true) : t;
    };
    const at::Tensor x64 = exact(x), weight64 = exact(weight), bias64 = exact(bias);
    const at::Tensor expected = at::linear(x64, weight64, bias64);
    EXPECT_LT(largest_difference(y.detach(), expected.detach()), kBfloat16);
    const at::Tensor up = at::randn(y.sizes()).to(at::kBFloat16);
    std::vector<at::Tensor> inputs{x, weight}, inputs64{x64, weight64};
    if (bias.defined()) {
      inputs.push_back(bias);
      inputs64.push_back(bias64);
    }
    const auto found = torch::autograd::grad({y}, inputs, {up});
    const auto wanted = torch::autograd::grad({expected}, inputs64, {up.to(at::kDouble)});
    for (std::size_t i = 0; i < found.size(); ++i) {
      EXPECT_EQ(found[i].scalar_type(), inputs[i].scalar_type()) << i;
      EXPECT_TRUE(found[i].is_contiguous()) << i;
      EXPECT_LT(largest_difference(found[i], wanted[i]), kBfloat16) << i;
    }
  }
}

TEST_P(LinearTest, ConstantWeightsGiveTheSame) {
  const at::NoGradGuard no_grad;
  const Autocast autocast;
  const at::Tensor plain = linear(x_, weight_, bias_), gelu = linear_gelu(x_, weight_, bias_);
  const ConstantWeights constant;
  for (int use = 0; use < 2; ++use) {
    EXPECT_LT(largest_difference(linear(x_, weight_, bias_), plain), kBfloat16);
    EXPECT_LT(largest_difference(linear_gelu(x_, weight_, bias_), gelu), kBfloat16);
  }
}

TEST_P(LinearTest, OfGeluIsTheTwoApartBitForBit) {
  for (const bool narrow : {false, true}) {
    std::optional<Autocast> autocast;
    if (narrow) autocast.emplace();
    const auto type = narrow ? at::kBFloat16 : at::kFloat;
    const auto leaf = [](const at::Tensor& t) { return t.defined() ? t.detach().clone().requires_grad_(true) : t; };
    for (const bool of_x : {true, false}) {
      const auto apart = [&](auto&& function) {
        const at::Tensor x = of_x ? leaf(x_.to(type)) : x_.to(type), weight = leaf(weight_), bias = leaf(bias_);
        const at::Tensor y = function(x, weight, bias);
        y.to(at::kFloat).square().sum().backward();
        std::vector<at::Tensor> results{y.detach(), weight.grad()};
        if (bias.defined()) results.push_back(bias.grad());
        if (of_x) results.push_back(x.grad());
        return results;
      };
      const auto found = apart([](const auto& x, const auto& w, const auto& b) { return gelu_linear(x, w, b); });
      const auto wanted = apart(
          [](const auto& x, const auto& w, const auto& b) { return linear(activate(Activation::gelu_erf, x), w, b); });
      ASSERT_EQ(found.size(), wanted.size());
      for (std::size_t i = 0; i < found.size(); ++i) EXPECT_TRUE(at::equal(found[i], wanted[i])) << i << narrow << of_x;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, LinearTest,
                         testing::Values(Case{{33, 64}, 96, true}, Case{{2, 7, 48}, 32, false}, Case{{5, 40}, 3, true},
                                         Case{{1, 16}, 16, true}, Case{{2100, 64}, 128, true},
                                         Case{{2048, 128}, 48, false}));

TEST(ConstantWeights, HoldOnlyWhileTheyLive) {
  const at::NoGradGuard no_grad;
  const Autocast autocast;
  const at::Tensor x = at::ones({4, 16}), weight = at::ones({16, 16});
  const auto value = [&] { return linear(x, weight, at::Tensor())[0][0].item<float>(); };
  {
    const ConstantWeights constant;
    const ConstantWeights nested;
    EXPECT_EQ(value(), 16);
  }
  weight.fill_(2);
  EXPECT_EQ(value(), 32);
  const ConstantWeights constant;
  EXPECT_EQ(value(), 32);
}

TEST(ConstantWeights, DoNotServeWhatIsDifferentiated) {
  const ConstantWeights constant;
  const Autocast autocast;
  const at::Tensor x = at::ones({4, 16}), weight = at::ones({16, 16}).requires_grad_(true);
  EXPECT_TRUE(linear(x, weight, at::Tensor()).requires_grad());
  EXPECT_TRUE(linear_gelu(x, weight, at::Tensor()).requires_grad());
}

}  // namespace
}  // namespace mmkd::nn
