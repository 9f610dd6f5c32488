#include "mmkd/metrics/calibration.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "mmkd/base/error.h"

namespace mmkd {
namespace {

constexpr double kSmallest = 1e-300;  // keeps logarithms finite

void check(std::span<const std::int32_t> y_true, std::span<const double> prob, std::int64_t classes) {
  if (y_true.empty() || classes < 1 || prob.size() != y_true.size() * static_cast<std::size_t>(classes))
    throw Error("calibration: {} labels and {} probabilities of {} classes do not belong together", y_true.size(),
                prob.size(), classes);
  for (const auto y : y_true) {
    if (y < 0 || y >= classes) throw Error("calibration: class {} of {}", y, classes);
  }
}

}  // namespace

double expected_calibration_error(std::span<const std::int32_t> y_true, std::span<const double> prob,
                                  std::int64_t classes) {
  check(y_true, prob, classes);
  constexpr std::size_t kBins = 15;
  struct Bin {
    double confidence = 0, right = 0;
  };
  std::array<Bin, kBins> bins{};
  for (std::size_t i = 0; i < y_true.size(); ++i) {
    const auto row = prob.subspan(i * static_cast<std::size_t>(classes), static_cast<std::size_t>(classes));
    const auto best = std::max_element(row.begin(), row.end());
    const auto bin = static_cast<std::size_t>(std::clamp(*best, 0.0, 1.0) * kBins);
    auto& [confidence, right] = bins[std::min(bin, kBins - 1)];
    confidence += *best;
    right += best - row.begin() == y_true[i] ? 1 : 0;
  }
  double error = 0;
  for (const auto& bin : bins) error += std::abs(bin.confidence - bin.right);
  return error / static_cast<double>(y_true.size());
}

std::vector<double> with_temperature(std::span<const double> prob, std::int64_t classes, double temperature) {
  std::vector<double> scaled(prob.begin(), prob.end());
  const auto width = static_cast<std::size_t>(classes);
  for (std::size_t begin = 0; begin < scaled.size(); begin += width) {
    const auto row = std::span(scaled).subspan(begin, width);
    double largest = -INFINITY, sum = 0;
    for (auto& p : row) {
      p = std::log(std::max(p, kSmallest)) / temperature;
      largest = std::max(largest, p);
    }
    for (auto& p : row) sum += p = std::exp(p - largest);
    for (auto& p : row) p /= sum;
  }
  return scaled;
}

double negative_log_likelihood(std::span<const std::int32_t> y_true, std::span<const double> prob,
                               std::int64_t classes) {
  check(y_true, prob, classes);
  double sum = 0;
  for (std::size_t i = 0; i < y_true.size(); ++i)
    sum -= std::log(
        std::max(prob[i * static_cast<std::size_t>(classes) + static_cast<std::size_t>(y_true[i])], kSmallest));
  return sum / static_cast<double>(y_true.size());
}

double fit_temperature(std::span<const std::int32_t> y_true, std::span<const double> prob, std::int64_t classes) {
  check(y_true, prob, classes);
  const auto loss = [&](double log_temperature) {
    return negative_log_likelihood(y_true, with_temperature(prob, classes, std::exp(log_temperature)), classes);
  };
  // The likelihood is log-concave in 1 / T, so it has one peak: golden-section search.
  const double ratio = (std::sqrt(5.0) - 1) / 2;
  double low = std::log(0.05), high = std::log(20.0);
  double a = high - ratio * (high - low), b = low + ratio * (high - low);
  double at_a = loss(a), at_b = loss(b);
  while (high - low > 1e-6) {
    if (at_a <= at_b) {
      high = b;
      b = a;
      at_b = at_a;
      a = high - ratio * (high - low);
      at_a = loss(a);
    } else {
      low = a;
      a = b;
      at_a = at_b;
      b = low + ratio * (high - low);
      at_b = loss(b);
    }
  }
  return std::exp((low + high) / 2);
}

}  // namespace mmkd
