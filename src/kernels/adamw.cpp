#include "mmkd/kernels/adamw.h"

#include <bit>
#include <cmath>

#include "mmkd/kernels/vector_clones.h"

// Compiled without contraction (CMakeLists.txt): where each operation rounds by itself, vectors and what is left behind
// the last of them give the same bits, and so do all instruction sets.
namespace mmkd::kernels {
namespace {

using Factors = AdamWFactors;

template <class GradientAt>
MMKD_ALWAYS_INLINE void update(const Factors& f, std::int64_t count, float* __restrict x, float* __restrict m,
                               float* __restrict v, GradientAt gradient_at) {
  for (std::int64_t i = 0; i < count; ++i) {
    const float g = gradient_at(i);
    m[i] = m[i] + f.new_share * (g - m[i]);
    v[i] = f.old_square * v[i] + f.new_square * (g * g);
    x[i] = x[i] * f.keep - f.step_size * m[i] / (std::sqrt(v[i]) * f.root_scale + f.eps);
  }
}

MMKD_VECTOR_CLONES void update_by(const Factors& f, std::int64_t count, float* __restrict x, const float* __restrict g,
                                  float* __restrict m, float* __restrict v) {
  update(f, count, x, m, v, [g](std::int64_t i) { return g[i]; });
}

MMKD_VECTOR_CLONES void update_by_divided(const Factors& f, std::int64_t count, float* __restrict x,
                                          const float* __restrict g, float* __restrict m, float* __restrict v) {
  update(f, count, x, m, v, [g, &f](std::int64_t i) { return g[i] / f.divisor; });
}

MMKD_VECTOR_CLONES void update_by_zeros(const Factors& f, std::int64_t count, float* __restrict x, float* __restrict m,
                                        float* __restrict v) {
  update(f, count, x, m, v, [](std::int64_t) { return 0.0F; });
}

/// With both moments 0 they stay so, and the step is 0 / ε.
MMKD_VECTOR_CLONES void decay(const Factors& f, std::int64_t count, float* __restrict x) {
  for (std::int64_t i = 0; i < count; ++i) x[i] = x[i] * f.keep;
}

/// Finite values alone.
MMKD_VECTOR_CLONES void round_to_bfloat16(std::int64_t count, const float* __restrict x, std::uint16_t* __restrict to) {
  constexpr std::uint32_t kAlmostHalf = 0x7FFF;
  for (std::int64_t i = 0; i < count; ++i) {
    const auto bits = std::bit_cast<std::uint32_t>(x[i]);
    to[i] = static_cast<std::uint16_t>((bits + kAlmostHalf + ((bits >> 16) & 1)) >> 16);
  }
}

}  // namespace

AdamWFactors adamw_factors(const AdamWNumbers& n, double learning_rate) {
  const double correction1 = 1 - std::pow(n.beta1, n.step), correction2 = 1 - std::pow(n.beta2, n.step);
  return {.keep = static_cast<float>(1 - learning_rate * n.weight_decay),
          .new_share = static_cast<float>(1 - n.beta1),
          .old_square = static_cast<float>(n.beta2),
          .new_square = static_cast<float>(1 - n.beta2),
          .step_size = static_cast<float>(learning_rate / correction1),
          .root_scale = static_cast<float>(1 / std::sqrt(correction2)),
          .eps = static_cast<float>(n.eps),
          .divisor = static_cast<float>(n.divisor)};
}

MMKD_VECTOR_CLONES double sum_of_squares(const float* values, std::int64_t count) {
  constexpr std::int64_t kLanes = 16;
  double sums[kLanes] = {};
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (std::int64_t l = 0; l < kLanes; ++l) {
      const double value = values[i + l];
      sums[l] += value * value;
    }
  }
  for (; i < count; ++i) sums[0] += double{values[i]} * values[i];
  double total = 0;
  for (const double sum : sums) total += sum;
  return total;
}

void adamw_update(const AdamWPiece& p) {
  const Factors& f = *p.factors;
  if (p.exp_avg == nullptr) {
    decay(f, p.count, p.value);
  } else if (p.gradient == nullptr) {
    update_by_zeros(f, p.count, p.value, p.exp_avg, p.exp_avg_sq);
  } else if (f.divisor == 1) {
    update_by(f, p.count, p.value, p.gradient, p.exp_avg, p.exp_avg_sq);
  } else {
    update_by_divided(f, p.count, p.value, p.gradient, p.exp_avg, p.exp_avg_sq);
  }
  if (p.narrow != nullptr) round_to_bfloat16(p.count, p.value, p.narrow);  // which are in the cache
}

}  // namespace mmkd::kernels
