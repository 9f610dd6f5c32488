#include "mmkd/fusion/fusion.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "mmkd/base/error.h"
#include "mmkd/nn/dropout.h"
#include "tests/support/gradient_check.h"
#include "tests/support/weight_checks.h"

namespace mmkd {
namespace {

constexpr FusionType kAvailable[] = {FusionType::simple, FusionType::concat_mlp, FusionType::gated};

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

TEST(Fusion, TypesWithoutRoutingHaveNoPenalty) {
  for (const auto type : kAvailable)
    EXPECT_FALSE(filled(small(type))->forward(random(1), random(2), {}).aux_loss.defined());
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
    const auto fusion = filled(small(type, 0.2));
    fusion->to(at::kDouble);
    const at::Tensor v = random(1).to(at::kDouble).requires_grad_();
    const at::Tensor t = random(2).to(at::kDouble).requires_grad_();
    const at::Tensor g = random(3).to(at::kDouble);
    const auto f = [&] { return (fusion->forward(v, t, training()).fused * g).sum(); };
    expect_gradient_matches_differences(v, f, "v");
    expect_gradient_matches_differences(t, f, "t");
    for (const auto& parameter : fusion->named_parameters()) {
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

TEST(Fusion, TypesThatAreNotAvailableSaySo) {
  for (const auto type : {FusionType::cross_attention, FusionType::film, FusionType::modality_dropout,
                          FusionType::transformer_concat, FusionType::energy_aware_adaptive, FusionType::shomr}) {
    try {
      make_fusion(small(type));
      FAIL();
    } catch (const UsageError& error) {
      EXPECT_NE(std::string(error.what()).find("not available in this version"), std::string::npos);
    }
  }
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
