#include "mmkd/metrics/mcnemar.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "mmkd/base/error.h"

namespace mmkd {
namespace {

/// min(1, 2 Σ_{i <= k} binom(n, i) / 2^n), in logarithms so that large n neither overflows nor vanishes.
double two_sided_binomial(std::int64_t k, std::int64_t n) {
  if (n == 0) return 1.0;
  const auto log_choose = [n](std::int64_t i) {
    return std::lgamma(static_cast<double>(n) + 1) - std::lgamma(static_cast<double>(i) + 1) -
           std::lgamma(static_cast<double>(n - i) + 1);
  };
  double sum = 0;
  for (std::int64_t i = 0; i <= k; ++i) sum += std::exp(log_choose(i) - static_cast<double>(n) * std::log(2.0));
  return std::min(1.0, 2.0 * sum);
}

}  // namespace

McNemar mcnemar(const std::vector<bool>& correct_a, const std::vector<bool>& correct_b) {
  if (correct_a.size() != correct_b.size())
    throw Error("McNemar: {} and {} samples", correct_a.size(), correct_b.size());
  McNemar result;
  for (std::size_t i = 0; i < correct_a.size(); ++i) {
    if (correct_a[i] && !correct_b[i]) ++result.only_a;
    if (!correct_a[i] && correct_b[i]) ++result.only_b;
  }
  const std::int64_t discordant = result.only_a + result.only_b;
  result.p_exact = two_sided_binomial(std::min(result.only_a, result.only_b), discordant);
  if (discordant > 0) {
    const double excess = std::max(static_cast<double>(std::abs(result.only_a - result.only_b)) - 1.0, 0.0);
    result.chi2_corrected = excess * excess / static_cast<double>(discordant);
  }
  result.p_chi2 = std::erfc(std::sqrt(result.chi2_corrected / 2.0));
  return result;
}

}  // namespace mmkd
