#include "mmkd/distill/terms.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/autocast_mode.h>
#include <gtest/gtest.h>
#include <torch/autograd.h>

#include <cmath>
#include <functional>
#include <numbers>

#include "mmkd/base/error.h"

namespace mmkd::terms {
namespace {

at::Tensor matrix(std::vector<std::vector<float>> rows) {
  auto result = at::empty({static_cast<std::int64_t>(rows.size()), static_cast<std::int64_t>(rows[0].size())});
  for (std::size_t i = 0; i < rows.size(); ++i) result[static_cast<std::int64_t>(i)].copy_(at::tensor(rows[i]));
  return result;
}

at::Tensor random(at::IntArrayRef shape, std::uint64_t seed) {
  return at::randn(shape, at::detail::createCPUGenerator(seed));
}

at::Tensor gradient_at(const at::Tensor& point, const std::function<at::Tensor(const at::Tensor&)>& function) {
  const auto leaf = point.detach().clone().requires_grad_(true);
  return torch::autograd::grad({function(leaf).sum()}, {leaf})[0];
}

void expect_near(const at::Tensor& got, const at::Tensor& want, double tolerance) {
  ASSERT_EQ(got.sizes(), want.sizes());
  EXPECT_LE((got - want).abs().max().item<double>(), tolerance) << "got " << got << "\nwant " << want;
}

/// Gradient along a random direction against the central difference.
void expect_gradient_fits_difference(const at::Tensor& point,
                                     const std::function<at::Tensor(const at::Tensor&)>& function) {
  const auto direction = random(point.sizes(), 99);
  const double h = 1e-2;
  const double difference =
      ((function(point + h * direction) - function(point - h * direction)) / (2 * h)).sum().item<double>();
  const double slope = (gradient_at(point, function) * direction).sum().item<double>();
  EXPECT_NEAR(slope, difference, 2e-3 * std::max(1.0, std::abs(difference)));
}

class Bf16Autocast {
 public:
  Bf16Autocast() {
    at::autocast::set_autocast_enabled(at::kCPU, true);
    at::autocast::set_autocast_dtype(at::kCPU, at::kBFloat16);
  }
  ~Bf16Autocast() {
    at::autocast::clear_cache();
    at::autocast::set_autocast_enabled(at::kCPU, false);
  }
};

TEST(CrossEntropy, IsMinusTheLogProbabilityOfTheLabelForEachRow) {
  const auto loss = cross_entropy(matrix({{0, 0}, {std::log(3.F), 0}}), at::tensor({1, 0}, at::kLong));
  expect_near(loss, at::tensor({std::numbers::ln2_v<float>, std::log(4.F / 3.F)}), 1e-6);
}

TEST(CrossEntropy, HasGradientProbabilityMinusOneHot) {
  const auto gradient = gradient_at(matrix({{std::log(3.F), 0}}), [](const at::Tensor& logits) {
    return cross_entropy(logits, at::tensor({0}, at::kLong));
  });
  expect_near(gradient, matrix({{-0.25F, 0.25F}}), 1e-6);
}

TEST(SoftTargetKl, IsZeroWhenStudentEqualsTeacher) {
  const auto logits = random({4, 5}, 1) * 10;
  expect_near(soft_target_kl(logits, logits, 4.0), at::zeros({4}), 0.0);
}

TEST(SoftTargetKl, IgnoresAConstantAddedToAllLogits) {
  const auto student = random({4, 5}, 1), teacher = random({4, 5}, 2);
  expect_near(soft_target_kl(student + 3.0, teacher - 7.0, 2.0), soft_target_kl(student, teacher, 2.0), 1e-5);
}

TEST(SoftTargetKl, MatchesHandComputedValueWithItsTSquared) {
  // p_t = (3/4, 1/4), p_s = (1/2, 1/2) at T = 2
  const double want = 4.0 * (0.75 * std::log(1.5) + 0.25 * std::log(0.5));
  const auto loss = soft_target_kl(matrix({{0, 0}}), matrix({{2 * std::log(3.F), 0}}), 2.0);
  expect_near(loss, at::tensor({static_cast<float>(want)}), 1e-6);
}

TEST(SoftTargetKl, HasGradientTTimesDifferenceOfProbabilities) {
  const auto student = random({3, 4}, 1), teacher = random({3, 4}, 2);
  const auto want = 3.0 * (at::softmax(student / 3.0, 1) - at::softmax(teacher / 3.0, 1));
  expect_near(gradient_at(student, [&](const at::Tensor& s) { return soft_target_kl(s, teacher, 3.0); }), want, 1e-5);
}

TEST(SoftTargetKl, StaysFiniteWhereTheTeacherIsCertain) {
  const auto loss = soft_target_kl(matrix({{0, 0}}), matrix({{1000, -1000}}), 1.0);
  expect_near(loss, at::tensor({std::numbers::ln2_v<float>}), 1e-6);
}

TEST(SoftTargetKl, RejectsDifferentNumbersOfClasses) {
  EXPECT_THROW(soft_target_kl(at::zeros({2, 3}), at::zeros({2, 4}), 1.0), Error);
}

TEST(DecoupledKl, WithAlphaOneAndBetaTheTeachersDoubtIsTheSoftTargetKl) {
  // KL = TCKD + (1 - p_target) · NCKD (Zhao et al., eq. 7), so with one row beta = 1 - p_target gives the plain one.
  const auto student = random({1, 5}, 1), teacher = random({1, 5}, 2) * 2;
  const auto label = at::tensor(std::vector<std::int64_t>{3});
  const double T = 2, p = (teacher / T).softmax(1)[0][3].item<double>();
  expect_near(decoupled_kl(student, teacher, label, T, 1, 1 - p), soft_target_kl(student, teacher, T), 1e-5);
}

TEST(DecoupledKl, OfTwoClassesHasNoSecondPart) {
  const auto student = random({4, 2}, 1), teacher = random({4, 2}, 2);
  const auto labels = at::tensor(std::vector<std::int64_t>{0, 1, 1, 0});
  expect_near(decoupled_kl(student, teacher, labels, 4, 0, 8), at::zeros({4}), 1e-6);
  expect_near(decoupled_kl(student, teacher, labels, 4, 1, 8), soft_target_kl(student, teacher, 4), 1e-5);
}

TEST(DecoupledKl, IsZeroForEqualLogitsAndFiniteWhereTheTeacherIsCertain) {
  const auto labels = at::tensor(std::vector<std::int64_t>{0, 1});
  const auto logits = random({2, 3}, 1);
  expect_near(decoupled_kl(logits, logits, labels, 4, 1, 8), at::zeros({2}), 1e-6);
  const auto certain = matrix({{1000, 0, 0}, {0, 1000, 0}});
  EXPECT_TRUE(decoupled_kl(logits, certain, labels, 4, 1, 8).isfinite().all().item<bool>());
  EXPECT_TRUE(gradient_at(certain, [&](const at::Tensor& x) { return decoupled_kl(x, logits, labels, 4, 1, 8); })
                  .isfinite()
                  .all()
                  .item<bool>());
}

TEST(DecoupledKl, HasTheGradientOfItsValue) {
  const auto teacher = random({4, 3}, 2);
  const auto labels = at::tensor(std::vector<std::int64_t>{0, 2, 1, 0});
  expect_gradient_fits_difference(random({4, 3}, 1),
                                  [&](const at::Tensor& x) { return decoupled_kl(x, teacher, labels, 2, 1, 2); });
}

TEST(CorrelationDistance, IgnoresWhatKeepsTheCorrelation) {
  // Two classes: every row (p, 1 - p) is perfectly correlated with any other that prefers the same class.
  const auto student = matrix({{3, 0}, {0, 1}}), teacher = matrix({{1, 0}, {0, 5}});
  EXPECT_NEAR(correlation_distance(student, teacher, 1, 1, 0).item<double>(), 0, 1e-5);
  EXPECT_NEAR(correlation_distance(-student, teacher, 1, 1, 0).item<double>(), 2, 1e-5);
}

TEST(CorrelationDistance, IsThatOfTheFormula) {
  const auto student = random({6, 4}, 1), teacher = random({6, 4}, 2);
  const double T = 2;
  const auto a = (student / T).softmax(1), b = (teacher / T).softmax(1);
  const auto correlation = [](const at::Tensor& x, const at::Tensor& y) {
    const auto u = x - x.mean(), v = y - y.mean();
    return ((u * v).sum() / (u.norm() * v.norm())).item<double>();
  };
  double rows = 0, columns = 0;
  for (std::int64_t i = 0; i < 6; ++i) rows += correlation(a[i], b[i]) / 6;
  for (std::int64_t k = 0; k < 4; ++k) columns += correlation(a.select(1, k), b.select(1, k)) / 4;
  EXPECT_NEAR(correlation_distance(student, teacher, T, 2, 3).item<double>(),
              T * T * (2 * (1 - rows) + 3 * (1 - columns)), 1e-4);
}

TEST(CorrelationDistance, OfOneSampleOrEqualRowsIsFinite) {
  for (const auto& logits : {random({1, 3}, 1), at::zeros({4, 3})}) {
    EXPECT_TRUE(correlation_distance(logits, logits, 1, 1, 1).isfinite().item<bool>());
    EXPECT_TRUE(gradient_at(logits, [&](const at::Tensor& x) { return correlation_distance(x, logits, 1, 1, 1); })
                    .isfinite()
                    .all()
                    .item<bool>());
  }
}

TEST(CorrelationDistance, HasTheGradientOfItsValue) {
  const auto teacher = random({5, 3}, 2);
  expect_gradient_fits_difference(random({5, 3}, 1),
                                  [&](const at::Tensor& x) { return correlation_distance(x, teacher, 1, 1, 1); });
}

TEST(FeatureMse, AveragesSquaredDifferencesOverTheWidth) {
  expect_near(feature_mse(matrix({{1, 2}, {0, 0}}), matrix({{0, 4}, {0, 0}})), at::tensor({2.5F, 0.0F}), 0.0);
}

TEST(InfoNce, MatchesHandComputedValueForOrthogonalRows) {
  const auto rows = matrix({{3, 0}, {0, 5}});
  EXPECT_NEAR(info_nce(rows, rows, 1.0).item<double>(), std::log(1.0 + std::exp(-1.0)), 1e-6);
  EXPECT_NEAR(info_nce(rows, rows, 0.5).item<double>(), std::log(1.0 + std::exp(-2.0)), 1e-6);
}

TEST(InfoNce, IsZeroForASingleRow) {
  EXPECT_EQ(info_nce(random({1, 8}, 1), random({1, 8}, 2), 0.1).item<double>(), 0.0);
}

TEST(InfoNce, IgnoresTheLengthOfTheRows) {
  const auto student = random({4, 6}, 1), target = random({4, 6}, 2);
  const auto scale = matrix({{0.5}, {2}, {7}, {1}});
  expect_near(info_nce(student * scale, target * 3.0, 0.1), info_nce(student, target, 0.1), 1e-5);
}

TEST(InfoNce, GrowsWhenTargetsAreSwapped) {
  const auto rows = random({4, 16}, 1);
  EXPECT_LT(info_nce(rows, rows, 0.1).item<double>(), info_nce(rows, rows.roll(1, 0), 0.1).item<double>());
}

TEST(InfoNce, HasTheGradientOfItsValue) {
  const auto target = random({4, 6}, 2);
  expect_gradient_fits_difference(random({4, 6}, 1), [&](const at::Tensor& s) { return info_nce(s, target, 0.5); });
}

TEST(RkdDistance, MatchesHandComputedValue) {
  const auto loss = rkd_distance(matrix({{2, 0}, {0, 3}}), matrix({{1, 0, 0}, {4, 0, 0}}));
  const double difference = std::sqrt(2.0 + 1e-8) - 1e-4;  // off the diagonal; 0 on it
  EXPECT_NEAR(loss.item<double>(), (difference - 0.5) / 2.0, 1e-6);
}

TEST(RkdAngle, MatchesHandComputedValue) {
  const auto loss = rkd_angle(matrix({{2, 0}, {0, 3}}), matrix({{1, 0, 0}, {4, 0, 0}}));
  EXPECT_NEAR(loss.item<double>(), 0.25, 1e-6);  // cosines 0 and 1: smooth_l1 0.5 in two of four places
}

TEST(Rkd, IsZeroForARotatedAndScaledCopy) {
  const auto student = random({5, 4}, 1);
  const auto rotation = std::get<0>(at::linalg_qr(random({4, 4}, 2)));
  const auto target = 3.0 * at::mm(student, rotation);
  EXPECT_NEAR(rkd_distance(student, target).item<double>(), 0.0, 1e-9);
  EXPECT_NEAR(rkd_angle(student, target).item<double>(), 0.0, 1e-9);
}

TEST(Rkd, HasTheGradientOfItsValue) {
  const auto target = random({5, 7}, 2);
  expect_gradient_fits_difference(random({5, 4}, 1), [&](const at::Tensor& s) { return rkd_distance(s, target); });
  expect_gradient_fits_difference(random({5, 4}, 1), [&](const at::Tensor& s) { return rkd_angle(s, target); });
}

TEST(Rkd, GivesFiniteGradientsForDuplicateRows) {
  const auto row = random({1, 4}, 1);
  const auto gradient = gradient_at(at::cat({row, row, random({1, 4}, 3)}), [](const at::Tensor& s) {
    return rkd_distance(s, random({3, 6}, 2));
  });
  EXPECT_TRUE(gradient.isfinite().all().item<bool>());
}

TEST(Mmd, MatchesHandComputedValueWithOneBandwidth) {
  const double bandwidth[] = {1.0};
  EXPECT_NEAR(mmd(matrix({{0}}), matrix({{1}}), bandwidth).item<double>(), 2.0 - 2.0 * std::exp(-0.5), 1e-6);
}

TEST(Mmd, IsZeroForTheSameRowsInAnotherOrder) {
  const auto rows = random({6, 3}, 1);
  EXPECT_NEAR(mmd(rows, rows.flip(0)).item<double>(), 0.0, 1e-6);
}

TEST(Mmd, HasTheGradientOfItsValue) {
  const auto target = random({5, 4}, 2);
  expect_gradient_fits_difference(random({5, 4}, 1), [&](const at::Tensor& s) { return mmd(s, target); });
}

TEST(Mmd, RejectsAnEmptyListOfBandwidths) { EXPECT_THROW(mmd(at::zeros({2, 2}), at::zeros({2, 2}), {}), Error); }

TEST(MmdScaled, DoesNotDependOnTheScaleOfTheFeatures) {
  const auto a = random({6, 4}, 1), b = random({6, 4}, 2) + 1;
  expect_near(mmd_scaled(a * 100, b * 100), mmd_scaled(a, b), 1e-5);
  EXPECT_GT(mmd_scaled(a * 100, b * 100).item<double>(), 0.05);
  // The fixed bandwidths see every pair of such rows as infinitely far apart: 2 / B, whatever the rows.
  EXPECT_NEAR(mmd(a * 100, b * 100).item<double>(), 2.0 / 6, 1e-4);
}

TEST(MmdScaled, IsMmdWithBandwidthsFromTheMeanDistance) {
  const auto a = random({5, 3}, 1), b = random({5, 3}, 2);
  const auto both = at::cat({a, b});
  double mean = 0;
  for (std::int64_t i = 0; i < 10; ++i) {
    for (std::int64_t k = 0; k < 10; ++k) mean += (both[i] - both[k]).norm().item<double>() / 90;
  }
  expect_near(mmd_scaled(a, b), mmd(a, b, std::vector<double>{mean / 4, mean / 2, mean, 2 * mean, 4 * mean}), 1e-5);
}

TEST(MmdScaled, OfEqualRowsIsZeroWithFiniteGradients) {
  const auto same = at::ones({4, 3});
  EXPECT_NEAR(mmd_scaled(same, same).item<double>(), 0, 1e-6);
  EXPECT_TRUE(
      gradient_at(same, [&](const at::Tensor& x) { return mmd_scaled(x, same); }).isfinite().all().item<bool>());
}

TEST(Terms, GiveTheSameInsideAndOutsideAnAutocastRegion) {
  const auto student = random({6, 8}, 1), target = random({6, 8}, 2);
  const auto labels = at::tensor({0, 1, 2, 3, 4, 5}, at::kLong);
  const auto all = [&] {
    return std::vector<at::Tensor>{cross_entropy(student, labels).mean(),
                                   soft_target_kl(student, target, 2.0).mean(),
                                   feature_mse(student, target).mean(),
                                   info_nce(student, target, 0.1),
                                   rkd_distance(student, target),
                                   rkd_angle(student, target),
                                   mmd(student, target)};
  };
  const auto outside = all();
  const Bf16Autocast autocast;
  ASSERT_EQ(at::mm(student, target.t()).scalar_type(), at::kBFloat16);  // autocast is really on
  const auto inside = all();
  for (std::size_t i = 0; i < outside.size(); ++i) {
    EXPECT_EQ(inside[i].scalar_type(), at::kFloat);
    EXPECT_TRUE(at::equal(inside[i], outside[i])) << i;
  }
}

TEST(Terms, ComputeInFloat32FromHalfPrecisionInputs) {
  const auto student = random({6, 8}, 1).to(at::kBFloat16), target = random({6, 8}, 2).to(at::kBFloat16);
  EXPECT_TRUE(at::equal(info_nce(student, target, 0.1), info_nce(student.to(at::kFloat), target.to(at::kFloat), 0.1)));
  EXPECT_TRUE(at::equal(feature_mse(student, target), feature_mse(student.to(at::kFloat), target.to(at::kFloat))));
}

}  // namespace
}  // namespace mmkd::terms
