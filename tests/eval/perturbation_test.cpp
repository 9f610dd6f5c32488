#include "mmkd/eval/perturbation.h"

#include <gtest/gtest.h>

#include <set>

namespace mmkd {
namespace {

using Kind = Perturbation::Kind;

at::Tensor keys(std::int64_t count) { return at::arange(count, at::kLong); }

TEST(MismatchedText, GivesEveryRowTheTextOfAnotherAndUsesEveryTextOnce) {
  std::vector<BatchPlan> plans(2);
  plans[0].rows = {0, 1, 2, 3};
  plans[1].rows = {4, 5, 6};
  perturb_plans({Kind::mismatched_text}, 3, 7, plans);
  std::set<std::int64_t> used;
  for (const auto& plan : plans) {
    ASSERT_EQ(plan.text_rows.size(), plan.rows.size());
    for (std::size_t i = 0; i < plan.rows.size(); ++i) {
      EXPECT_NE(plan.rows[i], plan.text_rows[i]);
      used.insert(plan.text_rows[i]);
    }
  }
  EXPECT_EQ(used.size(), 7U);
}

TEST(MismatchedText, OfOneSampleIsImpossibleAndChangesNothing) {
  std::vector<BatchPlan> plans(1);
  plans[0].rows = {0};
  perturb_plans({Kind::mismatched_text}, 3, 1, plans);
  EXPECT_TRUE(plans[0].text_rows.empty());
}

TEST(Noise, HasTheDeviationAndLeavesTheCallersPixels) {
  ModelInput input;
  const at::Tensor pixels = at::zeros({8, 3, 32, 32});
  input.pixels = pixels;
  perturb_input({Kind::noise, 0.2}, 1, keys(8), input);
  EXPECT_EQ(pixels.abs().max().item<float>(), 0);
  EXPECT_NEAR(input.pixels.std().item<double>(), 0.2, 0.01);
  EXPECT_NEAR(input.pixels.mean().item<double>(), 0, 0.01);
}

TEST(Noise, OfASampleDoesNotDependOnItsBatch) {
  ModelInput all, second;
  all.pixels = at::zeros({3, 3, 4, 4});
  second.pixels = at::zeros({1, 3, 4, 4});
  perturb_input({Kind::noise, 0.1}, 1, keys(3), all);
  perturb_input({Kind::noise, 0.1}, 1, at::tensor(std::vector<std::int64_t>{1}), second);
  EXPECT_TRUE(all.pixels[1].equal(second.pixels[0]));
}

TEST(Missing, DropsEachModalityIndependently) {
  ModelInput input;
  input.pixels = at::zeros({4000, 1, 1, 1});
  perturb_input({Kind::missing, 0.3}, 1, keys(4000), input);
  const auto share = [](const at::Tensor& t) { return 1 - t.to(at::kFloat).mean().item<double>(); };
  EXPECT_NEAR(share(input.has_image), 0.3, 0.03);
  EXPECT_NEAR(share(input.has_text), 0.3, 0.03);
  EXPECT_NEAR(share(input.has_image.logical_or(input.has_text)), 0.09, 0.02);
}

TEST(Absent, ModalityIsAbsentFromAll) {
  ModelInput input;
  perturb_input({Kind::no_image}, 1, keys(3), input);
  EXPECT_FALSE(input.has_image.any().item<bool>());
  EXPECT_FALSE(input.has_text.defined());
}

TEST(Perturbations, HaveNamesOfTheirOwnAndSkipWhatAModelHasNot) {
  std::set<std::string> names;
  for (const auto& perturbation : standard_perturbations()) {
    names.insert(perturbation.name());
    EXPECT_TRUE(perturbation.concerns(Modality::both));
  }
  EXPECT_EQ(names,
            (std::set<std::string>{"mismatched_text", "noise_0.1", "noise_0.2", "missing_0.3", "no_image", "no_text"}));
  EXPECT_FALSE((Perturbation{Kind::no_text}.concerns(Modality::text)));
  EXPECT_FALSE((Perturbation{Kind::noise, .1}.concerns(Modality::text)));
  EXPECT_TRUE((Perturbation{Kind::noise, .1}.concerns(Modality::image)));
}

}  // namespace
}  // namespace mmkd
