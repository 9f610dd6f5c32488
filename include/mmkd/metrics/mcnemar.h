#pragma once
#include <cstdint>
#include <vector>

namespace mmkd {

/// McNemar's test of two classifiers on the same samples (McNemar 1947; exact: binomial; corrected: Edwards 1948).
struct McNemar {
  std::int64_t only_a = 0;    ///< only the first is right
  std::int64_t only_b = 0;    ///< only the second is right
  double p_exact = 1;         ///< two-sided binomial p-value; 1 without discordant samples
  double chi2_corrected = 0;  ///< (max(|b - c| - 1, 0))² / (b + c); 0 without discordant samples
  double p_chi2 = 1;          ///< of chi2_corrected with one degree of freedom
};

/// correct_a, correct_b: [N], whether each was right on each sample. Throws Error if sizes differ.
McNemar mcnemar(const std::vector<bool>& correct_a, const std::vector<bool>& correct_b);

}  // namespace mmkd
