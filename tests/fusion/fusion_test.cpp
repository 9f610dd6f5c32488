#include "mmkd/fusion/fusion.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "mmkd/base/error.h"
#include "mmkd/config/names.h"
#include "mmkd/nn/dropout.h"
#include "tests/support/gradient_check.h"
#include "tests/support/weight_checks.h"

namespace mmkd {
namespace {

constexpr FusionType kAvailable[] = {
    FusionType::simple, FusionType::concat_mlp,       FusionType::cross_attention,    FusionType::gated,
    FusionType::film,   FusionType::modality_dropout, FusionType::transformer_concat, FusionType::energy_aware_adaptive,
    FusionType::shomr,  FusionType::gated_mlp};

FusionSpec small(FusionType type, double dropout = 0) {
  return {.type = type, .dim = 8, .heads = 2, .layers = 2, .hidden_mult = 3, .dropout = dropout};
}

std::shared_ptr<Fusion> filled(const FusionSpec& spec) {
  auto fusion = make_fusion(spec);
  nn::initialize(fusion->named_weights(), 1);
  nn::assign_dropout_ids(*fusion);
  return fusion;
}

at::Tensor random(std::uint64_t seed, at::IntArrayRef shape = {3, 8}) {
  auto generator = at::detail::createCPUGenerator(seed);
  return at::randn(shape, generator, at::kFloat);
}

nn::ForwardContext training() {
  return {.training = true, .seed = 1, .step = 2, .sample_keys = at::tensor({5, 6, 7}, at::kLong)};
}

std::vector<std::string> names(const FusionSpec& spec) {
  std::vector<std::string> result;
  for (const auto& entry : make_fusion(spec)->named_weights()) result.push_back(entry.name);
  return result;
}

TEST(Fusion, NamesAreThoseOfPyTorchsModules) {
  EXPECT_EQ(names(small(FusionType::gated)), (std::vector<std::string>{"gate.weight", "gate.bias"}));
  EXPECT_EQ(names(small(FusionType::concat_mlp)),
            (std::vector<std::string>{"mlp.0.weight", "mlp.0.bias", "mlp.3.weight", "mlp.3.bias"}));
  auto spec = small(FusionType::simple);
  spec.layers = 1;
  const std::string layer = "encoder.layers.0.";
  EXPECT_EQ(names(spec),
            (std::vector<std::string>{layer + "self_attn.in_proj_weight", layer + "self_attn.in_proj_bias",
                                      layer + "self_attn.out_proj.weight", layer + "self_attn.out_proj.bias",
                                      layer + "norm1.weight", layer + "norm1.bias", layer + "linear1.weight",
                                      layer + "linear1.bias", layer + "linear2.weight", layer + "linear2.bias",
                                      layer + "norm2.weight", layer + "norm2.bias"}));
}

TEST(Fusion, NamesCoverEveryParameterOnce) {
  for (const auto type : kAvailable) {
    const auto fusion = make_fusion(small(type));
    expect_covers_parameters_once(*fusion, fusion->named_weights());
  }
}

TEST(Fusion, SamplesDoNotInfluenceOneAnother) {
  for (const auto type : kAvailable) {
    const auto fusion = filled(small(type, 0.3));
    const at::Tensor all = fusion->forward(random(1), random(2), training()).fused;
    auto context = training();
    context.sample_keys = context.sample_keys.narrow(0, 1, 1);
    const at::Tensor alone = fusion->forward(random(1).narrow(0, 1, 1), random(2).narrow(0, 1, 1), context).fused;
    EXPECT_EQ(all.sizes(), (at::IntArrayRef{3, 8}));
    EXPECT_TRUE(at::allclose(alone[0], all[1], 1e-5, 1e-6));
  }
}

bool is_routed(FusionType type) { return type == FusionType::energy_aware_adaptive || type == FusionType::shomr; }

TEST(Fusion, OnlyRoutedTypesHaveRoutes) {
  for (const auto type : kAvailable) {
    const auto fusion = filled(small(type));
    const auto output = fusion->forward(random(1), random(2), {});
    EXPECT_EQ(output.route.defined(), is_routed(type)) << to_string(type);
    EXPECT_EQ(!fusion->route_names().empty(), is_routed(type)) << to_string(type);
    EXPECT_EQ(output.energy.defined(), fusion->has_energy()) << to_string(type);
  }
}

/// Many samples, for what holds on average.
nn::ForwardContext training_of(std::int64_t samples, std::uint64_t step = 2) {
  return {.training = true, .seed = 1, .step = step, .sample_keys = at::arange(100, 100 + samples, at::kLong)};
}

TEST(RoutedFusion, TrainingDrawsRoutesWithTheSoftmaxProbabilities) {
  const std::int64_t samples = 4000;
  auto spec = small(FusionType::energy_aware_adaptive);
  const auto fusion = filled(spec);
  const at::Tensor v = random(1, {1, 8}).expand({samples, 8}).contiguous();
  const at::Tensor t = random(2, {1, 8}).expand({samples, 8}).contiguous();
  const auto drawn = fusion->forward(v, t, training_of(samples)).route;
  const double energy = fusion->forward(v.narrow(0, 0, 1), t.narrow(0, 0, 1), {}).energy.item<double>();
  const at::Tensor shares = at::one_hot(drawn, 3).to(at::kDouble).mean(0);
  const double mean = 3.2 * shares[0].item<double>() + 4.1 * shares[1].item<double>() + 9.8 * shares[2].item<double>();
  EXPECT_NEAR(mean, energy, 0.15);  // four standard errors
}

TEST(RoutedFusion, RoutesDependOnTheSampleAndTheStepAlone) {
  for (const auto type : {FusionType::energy_aware_adaptive, FusionType::shomr}) {
    const auto fusion = filled(small(type));
    const at::Tensor v = random(1, {64, 8}), t = random(2, {64, 8});
    const auto whole = fusion->forward(v, t, training_of(64)).route;
    auto context = training_of(64);
    context.sample_keys = context.sample_keys.narrow(0, 20, 5);
    EXPECT_TRUE(
        at::equal(fusion->forward(v.narrow(0, 20, 5), t.narrow(0, 20, 5), context).route, whole.narrow(0, 20, 5)));
    EXPECT_FALSE(at::equal(fusion->forward(v, t, training_of(64, 3)).route, whole)) << to_string(type);
  }
}

TEST(RoutedFusion, TheRouterLearnsFromTheTaskOnlyStraightThrough) {
  for (const auto type : {FusionType::energy_aware_adaptive, FusionType::shomr}) {
    for (const auto routing : {Routing::straight_through, Routing::sampled}) {
      auto spec = small(type);
      spec.routing = routing;
      const auto fusion = filled(spec);
      fusion->forward(random(1, {64, 8}), random(2, {64, 8}), training_of(64)).fused.square().sum().backward();
      for (const auto& entry : fusion->named_weights()) {
        if (!entry.name.starts_with("router.")) continue;
        const at::Tensor gradient = nn::gradient(entry);
        const bool learns = gradient.defined() && gradient.abs().max().item<double>() > 0;
        EXPECT_EQ(learns, routing == Routing::straight_through) << to_string(type) << " " << entry.name;
      }
    }
  }
}

TEST(RoutedFusion, TrainingGivesTheChosenBranchExactly) {
  auto spec = small(FusionType::energy_aware_adaptive);
  const auto fusion = filled(spec);
  const at::Tensor v = random(1, {64, 8}), t = random(2, {64, 8});
  const auto output = fusion->forward(v, t, training_of(64));
  const auto rows_of = [&](std::int64_t route) { return output.route.eq(route); };
  EXPECT_GT(rows_of(0).sum().item<std::int64_t>(), 3);
  EXPECT_GT(rows_of(1).sum().item<std::int64_t>(), 3);
  EXPECT_TRUE(at::equal(output.fused.index({rows_of(0)}), v.index({rows_of(0)})));
  EXPECT_TRUE(at::equal(output.fused.index({rows_of(1)}), t.index({rows_of(1)})));
}

TEST(EnergyPenalty, GrowsBeyondTheBudgetOfTheBatch) {
  EXPECT_EQ(energy_penalty(at::tensor({3.2F, 9.8F})).item<double>(), 0);
  EXPECT_NEAR(energy_penalty(at::tensor({9.8F, 9.0F})).item<double>(), 0.01 * 1.4, 1e-7);
}

TEST(ModalityDropoutFusion, ZeroesOneModalityPerSampleAtTheAskedRatesNeverBoth) {
  constexpr std::int64_t kSamples = 4000;
  auto spec = small(FusionType::modality_dropout);
  spec.p_img = 0.3;
  spec.p_txt = 0.2;
  const auto fusion = filled(spec);
  const at::Tensor v = random(1, {1, 8}).expand({kSamples, 8}).contiguous();
  const at::Tensor t = random(2, {1, 8}).expand({kSamples, 8}).contiguous();
  const at::Tensor zero = at::zeros({1, 8});
  const auto of = [&](const at::Tensor& a, const at::Tensor& b) { return fusion->forward(a, b, {}).fused; };
  const at::Tensor both = of(v.narrow(0, 0, 1), t.narrow(0, 0, 1)), text = of(zero, t.narrow(0, 0, 1)),
                   image = of(v.narrow(0, 0, 1), zero);
  const at::Tensor trained = fusion->forward(v, t, training_of(kSamples)).fused;
  const auto share = [&](const at::Tensor& row) {
    return (trained - row).abs().amax(1).lt(1e-6).to(at::kDouble).mean().item<double>();
  };
  EXPECT_NEAR(share(text), 0.3, 0.03);
  EXPECT_NEAR(share(image), 0.2, 0.03);
  EXPECT_NEAR(share(both), 0.5, 0.03);
  EXPECT_THROW(make_fusion({.type = FusionType::modality_dropout, .dim = 8, .p_img = 0.7, .p_txt = 0.4}), UsageError);
}

TEST(Fusion, DropoutChangesTrainingOnly) {
  for (const auto type : {FusionType::simple, FusionType::concat_mlp}) {
    const auto fusion = filled(small(type, 0.3));
    const at::Tensor evaluated = fusion->forward(random(1), random(2), {}).fused;
    EXPECT_TRUE(at::equal(evaluated, filled(small(type))->forward(random(1), random(2), {}).fused));
    EXPECT_FALSE(at::allclose(evaluated, fusion->forward(random(1), random(2), training()).fused));
  }
}

TEST(Fusion, GradientsMatchFiniteDifferences) {
  for (const auto type : kAvailable) {
    auto spec = small(type, 0.2);
    spec.routing = Routing::sampled;  // a straight-through gradient is not that of the function
    const auto fusion = filled(spec);
    fusion->to(at::kDouble);
    const at::Tensor v = random(1).to(at::kDouble).requires_grad_();
    const at::Tensor t = random(2).to(at::kDouble).requires_grad_();
    const at::Tensor g = random(3).to(at::kDouble);
    const auto f = [&] { return (fusion->forward(v, t, training()).fused * g).sum(); };
    expect_gradient_matches_differences(v, f, "v");
    expect_gradient_matches_differences(t, f, "t");
    for (const auto& parameter : fusion->named_parameters()) {
      // A sampled route does not depend on what is around the router, and a hard threshold hides the confidences.
      if (parameter.key().starts_with("router") || parameter.key().starts_with("conf_net")) continue;
      expect_gradient_matches_differences(parameter.value(), f, parameter.key(), 3);
    }
  }
}

TEST(GatedFusion, AClosedGateGivesTextAndAnOpenOneVision) {
  const auto fusion = filled(small(FusionType::gated));
  const auto weights = fusion->named_weights();
  at::Tensor bias = weights.at(1).view;
  bias.fill_(-100);
  EXPECT_TRUE(at::allclose(fusion->forward(random(1), random(2), {}).fused, random(2)));
  bias.fill_(100);
  EXPECT_TRUE(at::allclose(fusion->forward(random(1), random(2), {}).fused, random(1)));
}

TEST(ConcatMlpFusion, OneLayerIsALinearMapOfBoth) {
  auto spec = small(FusionType::concat_mlp);
  spec.layers = 1;
  const auto fusion = filled(spec);
  const auto weights = fusion->named_weights();
  ASSERT_EQ(weights.size(), 2U);
  const at::Tensor expected = at::linear(at::cat({random(1), random(2)}, 1), weights[0].view, weights[1].view);
  EXPECT_TRUE(at::allclose(fusion->forward(random(1), random(2), {}).fused, expected));
}

TEST(SimpleFusion, DoesNotTellTheModalitiesApart) {
  const auto fusion = filled(small(FusionType::simple));
  EXPECT_TRUE(at::allclose(fusion->forward(random(1), random(2), {}).fused,
                           fusion->forward(random(2), random(1), {}).fused, 1e-5, 1e-6));
}

TEST(Fusion, RefusesSizesThatCannotBe) {
  auto spec = small(FusionType::simple);
  spec.heads = 3;
  EXPECT_THROW(make_fusion(spec), UsageError);
  spec = small(FusionType::simple);
  spec.layers = 0;
  EXPECT_THROW(make_fusion(spec), UsageError);
  spec = small(FusionType::concat_mlp);
  spec.layers = 0;
  EXPECT_THROW(make_fusion(spec), UsageError);
  spec = small(FusionType::gated);
  spec.dim = 0;
  EXPECT_THROW(make_fusion(spec), UsageError);
}

}  // namespace
}  // namespace mmkd
