#include <gtest/gtest.h>

#include "mmkd/backbones/vision_backbone.h"
#include "mmkd/base/error.h"
#include "tests/backbones/towers.h"
#include "tests/support/weight_checks.h"

namespace mmkd {
namespace {

VisionConfig mobilevit() {
  VisionConfig config;
  config.family = VisionFamily::mobilevit;
  config.image_size = 64;
  config.mobilevit.hidden_sizes = {8, 12, 16};
  config.mobilevit.neck_hidden_sizes = {8, 8, 8, 12, 12, 16, 24};
  config.mobilevit.num_attention_heads = 2;
  config.mobilevit.hidden_dropout = 0.2;
  return config;
}

VisionConfig mobilenet_v2() {
  VisionConfig config;
  config.family = VisionFamily::mobilenet_v2;
  config.image_size = 64;
  config.mobilenet_v2.depth_multiplier = 0.1;
  config.mobilenet_v2.depth_divisible_by = config.mobilenet_v2.min_depth = 4;
  config.mobilenet_v2.expand_ratio = 3;
  config.mobilenet_v2.finegrained_output = false;
  return config;
}

class ConvNet : public ::testing::TestWithParam<VisionFamily> {
 protected:
  VisionConfig config() const { return GetParam() == VisionFamily::mobilevit ? mobilevit() : mobilenet_v2(); }
};

TEST_P(ConvNet, FeatureIsTheMeanOfTheLastMap) {
  const auto tower = filled(config());
  const at::Tensor x = pictures({2, 3, 64, 64});
  const at::Tensor map = tower->forward_features(x, {});
  EXPECT_EQ(map.sizes(), (at::IntArrayRef{2, tower->width(), 2, 2}));
  EXPECT_TRUE(at::allclose(tower->forward(x, {}), map.mean({2, 3}), 1e-5, 1e-6));
  EXPECT_EQ(tower->width(), feature_width(config()));
}

TEST_P(ConvNet, TakesPicturesOfOtherSizes) {
  const auto tower = filled(config());
  for (const auto& [height, width] : {std::pair(96, 64), std::pair(50, 70)})
    EXPECT_EQ(tower->forward(pictures({1, 3, height, width}), {}).sizes(), (at::IntArrayRef{1, tower->width()}));
}

TEST_P(ConvNet, NamesCoverEveryParameterOnceAndEveryStatistic) {
  const auto tower = make_vision_backbone(config());
  const auto entries = tower->named_weights();
  expect_covers_parameters_once(*tower, entries);
  std::size_t statistics = 0;
  for (const auto& entry : entries) statistics += entry.parameter.defined() ? 0 : 1;
  EXPECT_EQ(statistics, tower->named_buffers().size());
  EXPECT_GT(statistics, 20U);
}

TEST_P(ConvNet, EveryParameterGetsAGradientInTraining) {
  const auto tower = filled(config());
  tower->forward(pictures({4, 3, 64, 64}), training(4)).square().sum().backward();
  for (const auto& parameter : tower->named_parameters())
    EXPECT_TRUE(parameter.value().grad().defined()) << parameter.key();
}

TEST_P(ConvNet, FrozenStatisticsDoNotMoveAndTrainingGivesWhatEvaluationDoes) {
  auto frozen = config();
  frozen.batch_norm = BatchNormMode::frozen;
  frozen.mobilevit.hidden_dropout = 0;
  const auto tower = filled(frozen);
  const at::Tensor x = pictures({3, 3, 64, 64});
  std::vector<at::Tensor> before;
  for (const auto& buffer : tower->buffers()) before.push_back(buffer.clone());
  const at::Tensor trained = tower->forward(x, training(3));
  for (std::size_t i = 0; i < before.size(); ++i) EXPECT_TRUE(at::equal(tower->buffers()[i], before[i]));
  EXPECT_TRUE(at::allclose(trained, tower->forward(x, {}), 1e-5, 1e-6));
}

TEST_P(ConvNet, DilatesInsteadOfShrinkingBelowTheOutputStride) {
  for (const std::int64_t stride : {8, 16}) {
    auto dilated = config();
    dilated.mobilevit.output_stride = dilated.mobilenet_v2.output_stride = stride;
    EXPECT_EQ(filled(dilated)->forward_features(pictures({1, 3, 64, 64}), {}).size(2), 64 / stride);
  }
}

TEST_P(ConvNet, RefusesWhatCannotBe) {
  EXPECT_THROW(filled(config())->forward(pictures({1, 1, 64, 64}), {}), Error);
  auto wrong = config();
  wrong.mobilevit.output_stride = wrong.mobilenet_v2.output_stride = 7;
  EXPECT_THROW(make_vision_backbone(wrong), UsageError);
}

std::string family_name(const ::testing::TestParamInfo<VisionFamily>& family) {
  return family.param == VisionFamily::mobilevit ? "mobilevit" : "mobilenet_v2";
}

INSTANTIATE_TEST_SUITE_P(Families, ConvNet, ::testing::Values(VisionFamily::mobilevit, VisionFamily::mobilenet_v2),
                         family_name);

TEST(MobileVit, DropoutMasksDoNotDependOnTheOtherSamples) {
  auto config = mobilevit();
  config.batch_norm = BatchNormMode::frozen;  // batch statistics would mix the samples
  const auto tower = filled(config);
  const at::Tensor x = pictures({3, 3, 64, 64});
  const at::Tensor all = tower->forward(x, training(3));
  auto context = training(3);
  context.sample_keys = context.sample_keys.narrow(0, 1, 1);
  EXPECT_TRUE(at::allclose(tower->forward(x.narrow(0, 1, 1), context)[0], all[1], 1e-4, 1e-5));
  EXPECT_FALSE(at::allclose(tower->forward(x, {}), all, 1e-4, 1e-5));
}

}  // namespace
}  // namespace mmkd
