#pragma once
#include <cstdint>

namespace mmkd::kernels {

/// What all elements share in one step.
struct AdamWNumbers {
  double beta1, beta2, eps, weight_decay;
  double step;         ///< 1 in the first one
  double divisor = 1;  ///< of the gradients
};

/// The formula's constants at one learning rate, as float32, computed in double.
struct AdamWFactors {
  float keep;  ///< of the value
  float new_share, old_square, new_square;
  float step_size, root_scale, eps, divisor;
};
AdamWFactors adamw_factors(const AdamWNumbers& numbers, double learning_rate);

/// Elements of one parameter, `count` of each.
struct AdamWPiece {
  float* value = nullptr;
  const float* gradient = nullptr;                  ///< null: zeros
  float *exp_avg = nullptr, *exp_avg_sq = nullptr;  ///< null: zeros that stay zeros, with a null gradient
  std::int64_t count = 0;
  const AdamWFactors* factors = nullptr;
  std::uint16_t* narrow = nullptr;  ///< gets the new values as bfloat16, rounded to nearest even; null: nothing does
};

/// AdamW on the CPU, element by element in float32, with g the gradient, m and v the moments, x the value:
///   g = g / divisor
///   m = m + (1 - β1) (g - m)
///   v = β2 v + (1 - β2) g²
///   x = x (1 - λ w) - λ / (1 - β1ᵗ) m / (√v / √(1 - β2ᵗ) + ε)
/// The same bits for any division into pieces and on every instruction set.
void adamw_update(const AdamWPiece& piece);

/// Of `count` floats, in double, where each square is exact. The same bits on every instruction set.
double sum_of_squares(const float* values, std::int64_t count);

}  // namespace mmkd::kernels
