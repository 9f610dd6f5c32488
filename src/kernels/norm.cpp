#include "mmkd/kernels/norm.h"

#include "avx512.h"

namespace mmkd::kernels {

#ifdef MMKD_AVX512
namespace {

__m512 load(ConstMatrix matrix, std::int64_t at) {
  return matrix.element == Element::float32 ? Float32::load(static_cast<const Float32::Value*>(matrix.data) + at)
                                            : Bfloat16::load(static_cast<const Bfloat16::Value*>(matrix.data) + at);
}

void store(Matrix matrix, std::int64_t at, __m512 values) {
  matrix.element == Element::float32 ? Float32::store(static_cast<Float32::Value*>(matrix.data) + at, values)
                                     : Bfloat16::store(static_cast<Bfloat16::Value*>(matrix.data) + at, values);
}

/// What a pass of GELU needs: Φ(x) and e^(-x²/2).
struct Normal {
  __m512 below, bell;
};

Normal normal(__m512 x) {
  const __m512 one = _mm512_set1_ps(1.0F);
  const __m512 z = _mm512_mul_ps(_mm512_abs_ps(x), _mm512_set1_ps(0.70710678F));
  const __m512 bell = exponential<true>(_mm512_mul_ps(_mm512_mul_ps(x, x), _mm512_set1_ps(-0.5F)));
  const __m512 t = _mm512_div_ps(one, _mm512_fmadd_ps(z, _mm512_set1_ps(0.3275911F), one));
  __m512 p = _mm512_set1_ps(1.061405429F);
  p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(-1.453152027F));
  p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(1.421413741F));
  p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(-0.284496736F));
  p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(0.254829592F));
  // (1 - erf(|x|/√2)) / 2: the share beyond |x|. Taken as it is for negative x, it keeps its relative precision there.
  const __m512 beyond = _mm512_mul_ps(_mm512_mul_ps(p, t), _mm512_mul_ps(bell, _mm512_set1_ps(0.5F)));
  const __mmask16 negative = _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_LT_OQ);
  return {_mm512_mask_mov_ps(_mm512_sub_ps(one, beyond), negative, beyond), bell};
}

/// body(first element, lanes) over `count` elements, the last ones by a mask.
template <class Body>
void for_lanes(std::int64_t count, Body body) {
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) body(i, static_cast<__mmask16>(0xFFFF));
  if (i < count) body(i, static_cast<__mmask16>((1U << static_cast<unsigned>(count - i)) - 1));
}

template <class T>
void gelu(const typename T::Value* x, typename T::Value* out, std::int64_t count) {
  for_lanes(count, [&](std::int64_t i, __mmask16 lanes) {
    const __m512 value = T::load(x + i, lanes);
    T::store(out + i, _mm512_mul_ps(value, normal(value).below), lanes);
  });
}

template <class T>
void gelu_gradient(const typename T::Value* x, const typename T::Value* up, typename T::Value* gradient,
                   typename T::Value* out, std::int64_t count) {
  for_lanes(count, [&](std::int64_t i, __mmask16 lanes) {
    const __m512 value = T::load(x + i, lanes);
    const Normal n = normal(value);
    if (out != nullptr) T::store(out + i, _mm512_mul_ps(value, n.below), lanes);
    // Φ(x) + x φ(x)
    const __m512 slope = _mm512_fmadd_ps(value, _mm512_mul_ps(n.bell, _mm512_set1_ps(0.39894228F)), n.below);
    T::store(gradient + i, _mm512_mul_ps(T::load(up + i, lanes), slope), lanes);
  });
}

}  // namespace

void residual_norm_forward(const NormParameters& parameters, std::int64_t rows, const float* residual,
                           ConstMatrix branch, float* sum, Matrix normed, Matrix normed_too, float* mean, float* rstd) {
  const std::int64_t width = parameters.width;
  const float share = 1.0F / static_cast<float>(width);
  for (std::int64_t row = 0; row < rows; ++row) {
    const std::int64_t at = row * width;
    __m512 total = _mm512_setzero_ps();
    for (std::int64_t j = 0; j < width; j += kLanes) {
      __m512 value = _mm512_loadu_ps(residual + at + j);
      if (branch.data != nullptr) {
        value = _mm512_add_ps(value, load(branch, at + j));
        _mm512_storeu_ps(sum + at + j, value);
      }
      total = _mm512_add_ps(total, value);
    }
    const float* values = branch.data != nullptr ? sum : residual;
    mean[row] = _mm512_reduce_add_ps(total) * share;
    const __m512 centre = _mm512_set1_ps(mean[row]);
    __m512 squares = _mm512_setzero_ps();
    for (std::int64_t j = 0; j < width; j += kLanes) {
      const __m512 difference = _mm512_sub_ps(_mm512_loadu_ps(values + at + j), centre);
      squares = _mm512_fmadd_ps(difference, difference, squares);
    }
    rstd[row] = 1.0F / __builtin_sqrtf(_mm512_reduce_add_ps(squares) * share + parameters.eps);
    const __m512 scale = _mm512_set1_ps(rstd[row]);
    for (std::int64_t j = 0; j < width; j += kLanes) {
      const __m512 standard = _mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(values + at + j), centre), scale);
      const __m512 result =
          _mm512_fmadd_ps(standard, _mm512_loadu_ps(parameters.weight + j), _mm512_loadu_ps(parameters.bias + j));
      store(normed, at + j, result);
      if (normed_too.data != nullptr) store(normed_too, at + j, result);
    }
  }
}

void residual_norm_backward(const NormParameters& parameters, std::int64_t rows, const NormStatistics& statistics,
                            const NormGradients& gradients, float* residual, Matrix branch, float* weight,
                            float* bias) {
  const std::int64_t width = parameters.width;
  const __m512 share = _mm512_set1_ps(1.0F / static_cast<float>(width));
  const auto of_normed = [&](std::int64_t at) {
    __m512 value = gradients.normed.data != nullptr ? load(gradients.normed, at) : _mm512_setzero_ps();
    if (gradients.normed_too.data != nullptr) value = _mm512_add_ps(value, load(gradients.normed_too, at));
    return value;
  };
  for (std::int64_t row = 0; row < rows; ++row) {
    const std::int64_t at = row * width;
    const __m512 centre = _mm512_set1_ps(statistics.mean[row]), scale = _mm512_set1_ps(statistics.rstd[row]);
    const auto standard_at = [&](std::int64_t j) {
      return _mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(statistics.sum + at + j), centre), scale);
    };
    __m512 total = _mm512_setzero_ps(), along = _mm512_setzero_ps();
    for (std::int64_t j = 0; j < width; j += kLanes) {
      const __m512 up = of_normed(at + j), standard = standard_at(j);
      _mm512_storeu_ps(bias + j, _mm512_add_ps(_mm512_loadu_ps(bias + j), up));
      _mm512_storeu_ps(weight + j, _mm512_fmadd_ps(up, standard, _mm512_loadu_ps(weight + j)));
      const __m512 scaled = _mm512_mul_ps(up, _mm512_loadu_ps(parameters.weight + j));
      total = _mm512_add_ps(total, scaled);
      along = _mm512_fmadd_ps(scaled, standard, along);
    }
    const __m512 mean_total = _mm512_mul_ps(_mm512_set1_ps(_mm512_reduce_add_ps(total)), share);
    const __m512 mean_along = _mm512_mul_ps(_mm512_set1_ps(_mm512_reduce_add_ps(along)), share);
    for (std::int64_t j = 0; j < width; j += kLanes) {
      const __m512 scaled = _mm512_mul_ps(of_normed(at + j), _mm512_loadu_ps(parameters.weight + j));
      __m512 value = _mm512_sub_ps(_mm512_sub_ps(scaled, mean_total), _mm512_mul_ps(standard_at(j), mean_along));
      value = _mm512_mul_ps(value, scale);
      if (gradients.sum != nullptr) value = _mm512_add_ps(value, _mm512_loadu_ps(gradients.sum + at + j));
      _mm512_storeu_ps(residual + at + j, value);
      if (branch.data != nullptr) store(branch, at + j, value);
    }
  }
}

void gelu_forward(Element element, const void* x, void* out, std::int64_t count) {
  element == Element::float32
      ? gelu<Float32>(static_cast<const float*>(x), static_cast<float*>(out), count)
      : gelu<Bfloat16>(static_cast<const std::uint16_t*>(x), static_cast<std::uint16_t*>(out), count);
}

void gelu_backward(Element element, const void* x, const void* out_gradient, void* gradient, void* out,
                   std::int64_t count) {
  element == Element::float32
      ? gelu_gradient<Float32>(static_cast<const float*>(x), static_cast<const float*>(out_gradient),
                               static_cast<float*>(gradient), static_cast<float*>(out), count)
      : gelu_gradient<Bfloat16>(static_cast<const std::uint16_t*>(x), static_cast<const std::uint16_t*>(out_gradient),
                                static_cast<std::uint16_t*>(gradient), static_cast<std::uint16_t*>(out), count);
}

void column_sums(const std::uint16_t* x, std::int64_t stride, std::int64_t rows, std::int64_t columns, float* sums) {
  constexpr std::int64_t kVectors = 8;  // of sums that stay in registers
  for (std::int64_t first = 0; first < columns; first += kVectors * kLanes) {
    const std::int64_t left = (columns - first) / kLanes, vectors = left < kVectors ? left : kVectors;
    __m512 totals[kVectors];
    for (auto& total : totals) total = _mm512_setzero_ps();
    for (std::int64_t row = 0; row < rows; ++row) {
      const std::uint16_t* from = x + row * stride + first;
      for (std::int64_t v = 0; v < vectors; ++v)
        totals[v] = _mm512_add_ps(totals[v], Bfloat16::load(from + v * kLanes));
    }
    for (std::int64_t v = 0; v < vectors; ++v) _mm512_storeu_ps(sums + first + v * kLanes, totals[v]);
  }
}

#else

void column_sums(const std::uint16_t*, std::int64_t, std::int64_t, std::int64_t, float*) {}
void residual_norm_forward(const NormParameters&, std::int64_t, const float*, ConstMatrix, float*, Matrix, Matrix,
                           float*, float*) {}
void residual_norm_backward(const NormParameters&, std::int64_t, const NormStatistics&, const NormGradients&, float*,
                            Matrix, float*, float*) {}
void gelu_forward(Element, const void*, void*, std::int64_t) {}
void gelu_backward(Element, const void*, const void*, void*, void*, std::int64_t) {}

#endif

}  // namespace mmkd::kernels
