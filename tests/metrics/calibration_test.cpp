#include "mmkd/metrics/calibration.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "mmkd/base/error.h"
#include "mmkd/base/rng.h"

namespace mmkd {
namespace {

TEST(ExpectedCalibrationError, IsZeroWhereConfidenceIsAccuracy) {
  // Four samples of confidence 0.75, three of them right.
  const std::vector<std::int32_t> y{0, 0, 0, 1};
  const std::vector<double> prob{.75, .25, .75, .25, .75, .25, .75, .25};
  EXPECT_NEAR(expected_calibration_error(y, prob, 2), 0, 1e-12);
}

TEST(ExpectedCalibrationError, WeighsBinsByTheirSize) {
  // Certain and wrong once, 0.6 and right three times: 1/4 · 1 + 3/4 · 0.4.
  const std::vector<std::int32_t> y{1, 0, 0, 0};
  const std::vector<double> prob{1, 0, .6, .4, .6, .4, .6, .4};
  EXPECT_NEAR(expected_calibration_error(y, prob, 2), 0.25 + 0.75 * 0.4, 1e-12);
}

TEST(ExpectedCalibrationError, RefusesWhatDoesNotBelongTogether) {
  const std::vector<std::int32_t> y{0, 2}, none;
  const std::vector<double> prob{.5, .5, .5, .5};
  EXPECT_THROW(expected_calibration_error(y, prob, 2), Error);
  EXPECT_THROW(expected_calibration_error(y, std::vector<double>{.5}, 2), Error);
  EXPECT_THROW(expected_calibration_error(none, {}, 2), Error);
}

TEST(WithTemperature, OfOneChangesNothingAndOfManyFlattens) {
  const std::vector<double> prob{.7, .2, .1};
  const auto same = with_temperature(prob, 3, 1), flat = with_temperature(prob, 3, 1000);
  for (std::size_t k = 0; k < 3; ++k) {
    EXPECT_NEAR(same[k], prob[k], 1e-12);
    EXPECT_NEAR(flat[k], 1.0 / 3, 1e-3);
  }
}

TEST(WithTemperature, StaysFiniteForCertainPredictions) {
  const auto scaled = with_temperature(std::vector<double>{1, 0}, 2, 2);
  EXPECT_NEAR(scaled[0] + scaled[1], 1, 1e-12);
  EXPECT_TRUE(std::isfinite(scaled[1]));
}

TEST(FitTemperature, FindsTheTemperatureThatProbabilitiesWereSharpenedWith) {
  // Labels are drawn from p; predictions are p sharpened by 1/3, so T = 3 mends them.
  constexpr std::int64_t kClasses = 4, kSamples = 4000;
  KeyedRng rng(5, RngPurpose::perturb, {1});
  std::vector<std::int32_t> y;
  std::vector<double> truth;
  for (std::int64_t i = 0; i < kSamples; ++i) {
    std::vector<double> row;
    double sum = 0;
    for (std::int64_t k = 0; k < kClasses; ++k) sum += row.emplace_back(std::exp(rng.normal()));
    double u = rng.uniform() * sum;
    std::int32_t label = 0;
    while (label + 1 < kClasses && u >= row[static_cast<std::size_t>(label)])
      u -= row[static_cast<std::size_t>(label++)];
    y.push_back(label);
    for (auto p : row) truth.push_back(p / sum);
  }
  const auto sharp = with_temperature(truth, kClasses, 1.0 / 3);
  const double fitted = fit_temperature(y, sharp, kClasses);
  EXPECT_NEAR(fitted, 3, 0.3);
  const auto mended = with_temperature(sharp, kClasses, fitted);
  EXPECT_LT(negative_log_likelihood(y, mended, kClasses), negative_log_likelihood(y, sharp, kClasses));
  EXPECT_LT(expected_calibration_error(y, mended, kClasses), expected_calibration_error(y, sharp, kClasses));
}

TEST(FitTemperature, EndsAtItsBoundForPerfectPredictions) {
  const std::vector<std::int32_t> y{0, 1};
  const std::vector<double> prob{.9, .1, .1, .9};
  EXPECT_NEAR(fit_temperature(y, prob, 2), 0.05, 1e-3);
}

}  // namespace
}  // namespace mmkd
