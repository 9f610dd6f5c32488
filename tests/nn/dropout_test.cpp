#include "mmkd/nn/dropout.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/autograd.h>

#include <array>
#include <bit>
#include <cmath>

#include "mmkd/base/error.h"
#include "mmkd/base/rng.h"

namespace mmkd::nn {
namespace {

ForwardContext training(std::vector<std::int64_t> sample_keys, std::uint64_t seed = 1, std::uint64_t step = 2) {
  return {.training = true, .seed = seed, .step = step, .sample_keys = at::tensor(sample_keys, at::kLong)};
}

/// Random, without zeros: a zero of the result is a dropped element.
at::Tensor input(at::IntArrayRef shape, at::ScalarType type = at::kFloat) {
  auto generator = at::detail::createCPUGenerator(5);
  return (at::rand(shape, generator, at::kFloat) + 0.5).to(type);
}

TEST(KeyedDropout, FollowsItsDocumentedDefinition) {
  constexpr double kP = 0.25;  // threshold 16384, scale 4/3
  constexpr std::uint64_t kLayer = 77;
  const auto context = training({-9}, /*seed=*/3, /*step=*/4);
  const at::Tensor x = input({1, 300});
  const at::Tensor y = keyed_dropout(x, kP, kLayer, context);
  const std::uint64_t key = combine_keys(
      {3, static_cast<std::uint64_t>(RngPurpose::dropout), 4, kLayer, std::bit_cast<std::uint64_t>(std::int64_t{-9})});
  for (std::uint32_t i = 0; i < 300; ++i) {
    const std::uint32_t block = 16 * (i / 128) + i % 16;
    const std::uint32_t lane = (i % 128) / 16;
    const auto words =
        philox4x32<7>({block, 0, 0, 0}, {static_cast<std::uint32_t>(key), static_cast<std::uint32_t>(key >> 32)});
    const std::uint32_t bits = (words[lane / 2] >> (16 * (lane % 2))) & 0xFFFF;
    const float scale = 65536.0F / 49152.0F;
    const float expected = bits < 16384 ? 0.0F : x[0][i].item<float>() * scale;
    ASSERT_EQ(y[0][i].item<float>(), expected) << i;
  }
}

TEST(KeyedDropout, DoesNotDependOnTheRestOfTheBatch) {
  const at::Tensor x = input({3, 7, 24});
  const at::Tensor together = keyed_dropout(x, 0.3, 1, training({10, 20, 30}));
  const at::Tensor reordered =
      keyed_dropout(x.index_select(0, at::tensor({2, 0}, at::kLong)), 0.3, 1, training({30, 10}));
  EXPECT_TRUE(at::equal(reordered[0], together[2]));
  EXPECT_TRUE(at::equal(reordered[1], together[0]));
}

TEST(KeyedDropout, DoesNotDependOnPadding) {
  const at::Tensor x = input({2, 40, 24});
  const auto context = training({10, 20});
  const at::Tensor padded = keyed_dropout(x, 0.3, 1, context);
  const at::Tensor shorter = keyed_dropout(x.narrow(1, 0, 13), 0.3, 1, context);
  EXPECT_TRUE(at::equal(padded.narrow(1, 0, 13), shorter));
}

TEST(KeyedDropout, DoesNotDependOnTheNumberOfThreads) {
  const at::Tensor x = input({3, 100, 333});
  const auto context = training({1, 2, 3});
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  const at::Tensor one = keyed_dropout(x, 0.1, 1, context);
  at::set_num_threads(3);
  const at::Tensor three = keyed_dropout(x, 0.1, 1, context);
  at::set_num_threads(threads);
  EXPECT_TRUE(at::equal(one, three));
}

TEST(KeyedDropout, DropsTheAskedShareAndKeepsTheMean) {
  constexpr double kCount = 8.0 * 128 * 128;
  for (const double p : {0.1, 0.5, 0.9}) {
    const at::Tensor y = keyed_dropout(at::ones({8, 128, 128}), p, 1, training({1, 2, 3, 4, 5, 6, 7, 8}));
    const double dropped = y.eq(0).sum().item<double>() / kCount;
    EXPECT_NEAR(dropped, p, 4 * std::sqrt(p * (1 - p) / kCount));
    EXPECT_NEAR(y.max().item<double>(), 1 / (1 - p), 2e-4 / (1 - p));
  }
}

TEST(KeyedDropout, NeighbouringElementsAreIndependent) {
  const at::Tensor kept = keyed_dropout(at::ones({1, 200000}), 0.5, 1, training({1})).ne(0).to(at::kDouble)[0] * 2 - 1;
  // Under independence each of these correlations has a deviation of 1/sqrt(200000).
  for (const std::int64_t distance : {1, 2, 8, 16, 32, 64, 128, 256}) {
    const double correlation =
        (kept.narrow(0, 0, 200000 - distance) * kept.narrow(0, distance, 200000 - distance)).mean().item<double>();
    EXPECT_NEAR(correlation, 0, 5 / std::sqrt(200000.0)) << distance;
  }
}

TEST(KeyedDropout, EveryPartOfTheKeyMatters) {
  const at::Tensor x = at::ones({1, 4096});
  const at::Tensor base = keyed_dropout(x, 0.5, 1, training({1}, 1, 2));
  const std::array<at::Tensor, 4> others{
      keyed_dropout(x, 0.5, 2, training({1}, 1, 2)), keyed_dropout(x, 0.5, 1, training({2}, 1, 2)),
      keyed_dropout(x, 0.5, 1, training({1}, 2, 2)), keyed_dropout(x, 0.5, 1, training({1}, 1, 3))};
  for (const auto& other : others) {
    EXPECT_NEAR(base.ne(0).eq(other.ne(0)).to(at::kDouble).mean().item<double>(), 0.5, 0.05);
  }
}

TEST(KeyedDropout, TensorOperationsGiveTheKernelsBits) {
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    for (const std::int64_t positions : {1, 100, 128, 129, 5000}) {
      for (const double p : {0.003, 0.1, 0.5, 0.999}) {
        const at::Tensor x = input({3, positions}, type);
        const auto context = training({std::int64_t{1} << 62, -5, 0});
        const at::Tensor y = keyed_dropout(x, p, ~std::uint64_t{0}, context);
        const at::Tensor keep = keyed_dropout_mask(positions, p, ~std::uint64_t{0}, context, at::kCPU);
        const float scale = 65536.0F / static_cast<float>(65536 - std::lround(p * 65536));
        const at::Tensor expected = at::where(keep, x.to(at::kFloat) * scale, at::zeros({})).to(type);
        EXPECT_TRUE(at::equal(y, expected)) << c10::toString(type) << " " << positions << " " << p;
      }
    }
  }
}

TEST(KeyedDropout, HasTheSameMaskInEveryType) {
  const auto context = training({1, 2});
  const at::Tensor x = input({2, 1000});
  const at::Tensor kept = keyed_dropout(x, 0.3, 1, context).ne(0);
  for (const at::ScalarType type : {at::kBFloat16, at::kHalf, at::kDouble}) {
    EXPECT_TRUE(at::equal(keyed_dropout(x.to(type), 0.3, 1, context).ne(0), kept)) << c10::toString(type);
  }
}

TEST(KeyedDropout, RoundsBfloat16AsTorchDoes) {
  // Ties and numbers around the largest ones, with both signs.
  const at::Tensor bits = at::arange(-32768, 32768, at::kInt).to(at::kShort);
  const at::Tensor x = bits.view(at::kBFloat16).view({1, -1});
  const auto context = training({1});
  const at::Tensor y = keyed_dropout(x, 0.1, 1, context);
  const at::Tensor keep = keyed_dropout_mask(65536, 0.1, 1, context, at::kCPU);
  const float scale = 65536.0F / (65536 - 6554);
  const at::Tensor expected = at::where(keep, x.to(at::kFloat) * scale, at::zeros({})).to(at::kBFloat16);
  EXPECT_TRUE(at::allclose(y.to(at::kFloat), expected.to(at::kFloat), 0, 0, /*equal_nan=*/true));
}

TEST(KeyedDropout, DroppedElementsAreZeroWhateverTheyWere) {
  const at::Tensor y =
      keyed_dropout(at::full({1, 1000}, std::numeric_limits<float>::quiet_NaN()), 0.5, 1, training({1}));
  EXPECT_NEAR(y.eq(0).sum().item<double>(), 500, 80);
}

TEST(KeyedDropout, BackwardIsTheSameMaskAndScale) {
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16, at::kDouble}) {
    const auto context = training({1, 2});
    const at::Tensor x = input({2, 5, 40}, type).requires_grad_();
    const at::Tensor upstream = input({2, 5, 40}, type) * 3;
    keyed_dropout(x, 0.4, 9, context).backward(upstream);
    EXPECT_TRUE(at::equal(x.grad(), keyed_dropout(upstream, 0.4, 9, context))) << c10::toString(type);
  }
}

TEST(KeyedDropout, TakesInputsThatAreNotContiguous) {
  const at::Tensor x = input({2, 30, 20}).transpose(1, 2);
  EXPECT_TRUE(
      at::equal(keyed_dropout(x, 0.4, 9, training({1, 2})), keyed_dropout(x.contiguous(), 0.4, 9, training({1, 2}))));
}

TEST(KeyedDropout, GivesItsInputOutsideTrainingAndForProbabilityZero) {
  const at::Tensor x = input({2, 5});
  EXPECT_TRUE(keyed_dropout(x, 0.5, 1, {}).is_same(x));
  EXPECT_TRUE(keyed_dropout(x, 0.0, 1, training({1, 2})).is_same(x));
}

TEST(KeyedDropout, RefusesWrongProbabilitiesAndKeys) {
  const at::Tensor x = input({2, 5});
  for (const double p : {-0.1, 1.0, 1.5, std::nan("")}) EXPECT_THROW(keyed_dropout(x, p, 1, training({1, 2})), Error);
  EXPECT_THROW(keyed_dropout(x, 0.5, 1, training({1})), Error);
  EXPECT_THROW(keyed_dropout(x, 0.5, 1, {.training = true, .seed = 0, .step = 0, .sample_keys = {}}), Error);
}

TEST(DropoutIds, DependOnThePathInTheModel) {
  const auto tree = [](const std::string& extra) {
    auto root = std::make_shared<torch::nn::Module>();
    auto tower = root->register_module("tower", std::make_shared<torch::nn::Module>());
    if (!extra.empty()) tower->register_module(extra, std::make_shared<Dropout>(0.1));
    tower->register_module("a", std::make_shared<Dropout>(0.1));
    tower->register_module("b", std::make_shared<Dropout>(0.1));
    assign_dropout_ids(*root);
    return root;
  };
  const auto id = [](const torch::nn::Module& root, const std::string& name) {
    return dynamic_cast<const Dropout&>(*root.named_modules().find(name)->get()).layer_id;
  };
  const auto one = tree(""), other = tree("before");
  EXPECT_NE(id(*one, "tower.a"), id(*one, "tower.b"));
  EXPECT_EQ(id(*one, "tower.a"), id(*other, "tower.a"));
  EXPECT_EQ(id(*one, "tower.b"), id(*other, "tower.b"));
}

}  // namespace
}  // namespace mmkd::nn
