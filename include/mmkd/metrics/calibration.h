#pragma once
#include <cstdint>
#include <span>
#include <vector>

// How far predicted probabilities can be trusted (Guo et al., "On calibration of modern neural networks", 2017).
// y_true: [N] class numbers; prob: [N, classes] row-major, rows that sum to 1.
namespace mmkd {

/// Expected calibration error: mean distance of confidence and accuracy over 15 bins of equal width, weighted by size.
/// Throws Error for an empty set and sizes that differ.
double expected_calibration_error(std::span<const std::int32_t> y_true, std::span<const double> prob,
                                  std::int64_t classes);

/// The temperature in [0.05, 20] that minimises the negative log-likelihood of softmax(log(prob) / T).
double fit_temperature(std::span<const std::int32_t> y_true, std::span<const double> prob, std::int64_t classes);

/// softmax(log(prob) / T) of each row.
std::vector<double> with_temperature(std::span<const double> prob, std::int64_t classes, double temperature);

/// Mean of −log prob[y_true].
double negative_log_likelihood(std::span<const std::int32_t> y_true, std::span<const double> prob,
                               std::int64_t classes);

}  // namespace mmkd
