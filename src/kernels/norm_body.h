#pragma once
#include "mmkd/kernels/norm.h"
#include "vectors.h"

#ifdef MMKD_VECTORS
namespace mmkd::kernels {
namespace {

#ifdef MMKD_AVX512
inline Vector load(ConstMatrix matrix, std::int64_t at) {
  return matrix.element == Element::float32 ? Float32::load(static_cast<const Float32::Value*>(matrix.data) + at)
                                            : Bfloat16::load(static_cast<const Bfloat16::Value*>(matrix.data) + at);
}

inline void store(Matrix matrix, std::int64_t at, Vector values) {
  matrix.element == Element::float32 ? Float32::store(static_cast<Float32::Value*>(matrix.data) + at, values)
                                     : Bfloat16::store(static_cast<Bfloat16::Value*>(matrix.data) + at, values);
}
#else
inline Vector load(ConstMatrix matrix, std::int64_t at) {
  return Float32::load(static_cast<const Float32::Value*>(matrix.data) + at);
}

inline void store(Matrix matrix, std::int64_t at, Vector values) {
  Float32::store(static_cast<Float32::Value*>(matrix.data) + at, values);
}
#endif

/// What a pass of GELU needs: Φ(x) and e^(-x²/2).
struct Normal {
  Vector below, bell;
};

inline Normal normal(Vector x) {
  const Vector one = spread(1.0F);
  const Vector z = multiply(absolute(x), spread(0.70710678F));
  const Vector bell = exponential<true>(multiply(multiply(x, x), spread(-0.5F)));
  const Vector t = divide(one, multiply_add(z, spread(0.3275911F), one));
  Vector p = spread(1.061405429F);
  p = multiply_add(p, t, spread(-1.453152027F));
  p = multiply_add(p, t, spread(1.421413741F));
  p = multiply_add(p, t, spread(-0.284496736F));
  p = multiply_add(p, t, spread(0.254829592F));
  // (1 - erf(|x|/√2)) / 2: the share beyond |x|. Taken as it is for negative x, it keeps its relative precision there.
  const Vector beyond = multiply(multiply(p, t), multiply(bell, spread(0.5F)));
  const Mask negative = below(x, zeros());
  return {choose(negative, beyond, subtract(one, beyond)), bell};
}

/// Loads and stores whole vectors; the same with a mask.
template <class T>
struct WholeVector {
  using Value = typename T::Value;
  static Vector load(const Value* from) { return T::load(from); }
  static void store(Value* to, Vector values) { T::store(to, values); }
};
template <class T>
struct PartOfVector {
  using Value = typename T::Value;
  Mask lanes;
  Vector load(const Value* from) const { return T::load(from, lanes); }
  void store(Value* to, Vector values) const { T::store(to, values, lanes); }
};

/// body(first element, its memory) over `count` elements, the last ones by a mask.
template <class T, class Body>
void for_vectors(std::int64_t count, Body body) {
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) body(i, WholeVector<T>{});
  if (i < count) body(i, PartOfVector<T>{lanes_below(count - i)});
}

template <class T>
void gelu(const typename T::Value* x, typename T::Value* out, std::int64_t count) {
  for_vectors<T>(count, [&](std::int64_t i, auto memory) {
    const Vector value = memory.load(x + i);
    memory.store(out + i, multiply(value, normal(value).below));
  });
}

template <class T>
void gelu_gradient(const typename T::Value* x, const typename T::Value* up, typename T::Value* gradient,
                   typename T::Value* out, std::int64_t count) {
  for_vectors<T>(count, [&](std::int64_t i, auto memory) {
    const Vector value = memory.load(x + i);
    const Normal n = normal(value);
    if (out != nullptr) memory.store(out + i, multiply(value, n.below));
    // Φ(x) + x φ(x)
    const Vector slope = multiply_add(value, multiply(n.bell, spread(0.39894228F)), n.below);
    memory.store(gradient + i, multiply(memory.load(up + i), slope));
  });
}

namespace vectors {

inline void residual_norm_forward(const NormParameters& parameters, std::int64_t rows, const float* residual,
                                  ConstMatrix branch, float* sum, Matrix normed, Matrix normed_too, float* mean,
                                  float* rstd) {
  const std::int64_t width = parameters.width;
  const float share = 1.0F / static_cast<float>(width);
  for (std::int64_t row = 0; row < rows; ++row) {
    const std::int64_t at = row * width;
    Vector total = zeros();
    for (std::int64_t j = 0; j < width; j += kLanes) {
      Vector value = load_floats(residual + at + j);
      if (branch.data != nullptr) {
        value = add(value, load(branch, at + j));
        store_floats(sum + at + j, value);
      }
      total = add(total, value);
    }
    const float* values = branch.data != nullptr ? sum : residual;
    mean[row] = sum_of(total) * share;
    const Vector centre = spread(mean[row]);
    Vector squares = zeros();
    for (std::int64_t j = 0; j < width; j += kLanes) {
      const Vector difference = subtract(load_floats(values + at + j), centre);
      squares = multiply_add(difference, difference, squares);
    }
    rstd[row] = 1.0F / __builtin_sqrtf(sum_of(squares) * share + parameters.eps);
    const Vector scale = spread(rstd[row]);
    for (std::int64_t j = 0; j < width; j += kLanes) {
      const Vector standard = multiply(subtract(load_floats(values + at + j), centre), scale);
      const Vector result =
          multiply_add(standard, load_floats(parameters.weight + j), load_floats(parameters.bias + j));
      store(normed, at + j, result);
      if (normed_too.data != nullptr) store(normed_too, at + j, result);
    }
  }
}

inline void residual_norm_backward(const NormParameters& parameters, std::int64_t rows,
                                   const NormStatistics& statistics, const NormGradients& gradients, float* residual,
                                   Matrix branch, float* weight, float* bias) {
  const std::int64_t width = parameters.width;
  const Vector share = spread(1.0F / static_cast<float>(width));
  const auto of_normed = [&](std::int64_t at) {
    Vector value = gradients.normed.data != nullptr ? load(gradients.normed, at) : zeros();
    if (gradients.normed_too.data != nullptr) value = add(value, load(gradients.normed_too, at));
    return value;
  };
  for (std::int64_t row = 0; row < rows; ++row) {
    const std::int64_t at = row * width;
    const Vector centre = spread(statistics.mean[row]), scale = spread(statistics.rstd[row]);
    const auto standard_at = [&](std::int64_t j) {
      return multiply(subtract(load_floats(statistics.sum + at + j), centre), scale);
    };
    Vector total = zeros(), along = zeros();
    for (std::int64_t j = 0; j < width; j += kLanes) {
      const Vector up = of_normed(at + j), standard = standard_at(j);
      store_floats(bias + j, add(load_floats(bias + j), up));
      store_floats(weight + j, multiply_add(up, standard, load_floats(weight + j)));
      const Vector scaled = multiply(up, load_floats(parameters.weight + j));
      total = add(total, scaled);
      along = multiply_add(scaled, standard, along);
    }
    const Vector mean_total = multiply(spread(sum_of(total)), share);
    const Vector mean_along = multiply(spread(sum_of(along)), share);
    for (std::int64_t j = 0; j < width; j += kLanes) {
      const Vector scaled = multiply(of_normed(at + j), load_floats(parameters.weight + j));
      Vector value = subtract(subtract(scaled, mean_total), multiply(standard_at(j), mean_along));
      value = multiply(value, scale);
      if (gradients.sum != nullptr) value = add(value, load_floats(gradients.sum + at + j));
      store_floats(residual + at + j, value);
      if (branch.data != nullptr) store(branch, at + j, value);
    }
  }
}

#ifdef MMKD_AVX512
inline void column_sums(const std::uint16_t* x, std::int64_t stride, std::int64_t rows, std::int64_t columns,
                        float* sums) {
  constexpr std::int64_t kVectors = 8;  // of sums that stay in registers
  for (std::int64_t first = 0; first < columns; first += kVectors * kLanes) {
    const std::int64_t left = (columns - first) / kLanes, vectors = left < kVectors ? left : kVectors;
    Vector totals[kVectors];
    for (auto& total : totals) total = zeros();
    for (std::int64_t row = 0; row < rows; ++row) {
      const std::uint16_t* from = x + row * stride + first;
      for (std::int64_t v = 0; v < vectors; ++v) totals[v] = add(totals[v], Bfloat16::load(from + v * kLanes));
    }
    for (std::int64_t v = 0; v < vectors; ++v) store_floats(sums + first + v * kLanes, totals[v]);
  }
}
#endif

}  // namespace vectors
}  // namespace
}  // namespace mmkd::kernels
#endif
