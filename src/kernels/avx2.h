#pragma once
#if defined(__AVX2__) && defined(__FMA__) && !defined(__AVX512F__)
#define MMKD_AVX2 1

#include <immintrin.h>

#include <cstdint>

namespace mmkd::kernels {
namespace {

constexpr std::int64_t kLanes = 16;

struct Vector {  // of float32
  __m256 low, high;
};
struct Words {  // of 32 bits
  __m256i low, high;
};
using Mask = Vector;  // of lanes: all bits or none

inline Vector zeros() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
inline Vector spread(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
inline Words spread_word(std::int32_t x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
inline Vector as_floats(Words x) { return {_mm256_castsi256_ps(x.low), _mm256_castsi256_ps(x.high)}; }
inline Vector load_floats(const float* from) { return {_mm256_loadu_ps(from), _mm256_loadu_ps(from + 8)}; }
inline void store_floats(float* to, Vector x) {
  _mm256_storeu_ps(to, x.low);
  _mm256_storeu_ps(to + 8, x.high);
}
inline Vector load_floats(const float* from, Mask lanes) {
  return {_mm256_maskload_ps(from, _mm256_castps_si256(lanes.low)),
          _mm256_maskload_ps(from + 8, _mm256_castps_si256(lanes.high))};
}
inline void store_floats(float* to, Vector x, Mask lanes) {
  _mm256_maskstore_ps(to, _mm256_castps_si256(lanes.low), x.low);
  _mm256_maskstore_ps(to + 8, _mm256_castps_si256(lanes.high), x.high);
}
inline Words load_words(const std::int32_t* from) {
  return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)),
          _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + 8))};
}

inline Vector add(Vector a, Vector b) { return {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)}; }
inline Vector subtract(Vector a, Vector b) { return {_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high)}; }
inline Vector multiply(Vector a, Vector b) { return {_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)}; }
inline Vector divide(Vector a, Vector b) { return {_mm256_div_ps(a.low, b.low), _mm256_div_ps(a.high, b.high)}; }
inline Vector multiply_add(Vector a, Vector b, Vector c) {  // a b + c
  return {_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
}
inline Vector multiply_subtract(Vector a, Vector b, Vector c) {  // a b - c
  return {_mm256_fmsub_ps(a.low, b.low, c.low), _mm256_fmsub_ps(a.high, b.high, c.high)};
}
inline Vector negated_multiply_add(Vector a, Vector b, Vector c) {  // c - a b
  return {_mm256_fnmadd_ps(a.low, b.low, c.low), _mm256_fnmadd_ps(a.high, b.high, c.high)};
}
inline Vector larger(Vector a, Vector b) { return {_mm256_max_ps(a.low, b.low), _mm256_max_ps(a.high, b.high)}; }
inline Vector absolute(Vector a) {
  const __m256 sign = _mm256_set1_ps(-0.0F);
  return {_mm256_andnot_ps(sign, a.low), _mm256_andnot_ps(sign, a.high)};
}
inline Vector rounded(Vector a) {
  constexpr int kNearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  return {_mm256_round_ps(a.low, kNearest), _mm256_round_ps(a.high, kNearest)};
}
/// 2ⁿ for whole n whose power is a normal number.
inline __m256 power_of_two(__m256 n) {
  constexpr int kBias = 127, kMantissa = 23;
  return _mm256_castsi256_ps(
      _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(kBias)), kMantissa));
}
/// a · 2ⁿ for whole n, where the result is a normal number.
inline Vector times_power_of_two(Vector a, Vector n) {
  return multiply(a, {power_of_two(n.low), power_of_two(n.high)});
}

inline Mask lanes_below(std::int64_t count) {
  const __m256i limit = _mm256_set1_epi32(static_cast<std::int32_t>(count < kLanes ? count : kLanes));
  const __m256i first = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const __m256i second = _mm256_add_epi32(first, _mm256_set1_epi32(8));
  return as_floats({_mm256_cmpgt_epi32(limit, first), _mm256_cmpgt_epi32(limit, second)});
}
inline Mask below(Vector a, Vector b) {
  return {_mm256_cmp_ps(a.low, b.low, _CMP_LT_OQ), _mm256_cmp_ps(a.high, b.high, _CMP_LT_OQ)};
}
inline Mask not_below(Vector a, Vector b) {  // true for NaN
  return {_mm256_cmp_ps(a.low, b.low, _CMP_NLT_UQ), _mm256_cmp_ps(a.high, b.high, _CMP_NLT_UQ)};
}
inline Vector choose(Mask lanes, Vector a, Vector b) {
  return {_mm256_blendv_ps(b.low, a.low, lanes.low), _mm256_blendv_ps(b.high, a.high, lanes.high)};
}
inline Vector only(Mask lanes, Vector a) {
  return {_mm256_and_ps(lanes.low, a.low), _mm256_and_ps(lanes.high, a.high)};
}

/// By halves, as AVX-512's reductions do it.
template <class Combine>
inline float combined(__m256 x, Combine combine) {
  __m128 four = combine(_mm256_extractf128_ps(x, 1), _mm256_castps256_ps128(x));
  four = combine(four, _mm_shuffle_ps(four, four, _MM_SHUFFLE(1, 0, 3, 2)));
  return _mm_cvtss_f32(combine(four, _mm_shuffle_ps(four, four, _MM_SHUFFLE(1, 1, 1, 1))));
}
inline float sum_of(Vector x) {
  return combined(_mm256_add_ps(x.high, x.low), [](__m128 a, __m128 b) { return _mm_add_ps(a, b); });
}
inline float largest_of(Vector x) {
  return combined(_mm256_max_ps(x.high, x.low), [](__m128 a, __m128 b) { return _mm_max_ps(a, b); });
}

/// Transposes 8 x 8 words.
inline void transpose_quarter(const std::int32_t* from, std::int64_t from_row, std::int64_t rows, std::int32_t* to,
                              std::int64_t to_row) {
  __m256 t[8], u[8];
  for (int i = 0; i < 8; ++i)
    t[i] = i < rows ? _mm256_loadu_ps(reinterpret_cast<const float*>(from + i * from_row)) : _mm256_setzero_ps();
  for (int i = 0; i < 8; i += 2) {
    u[i] = _mm256_unpacklo_ps(t[i], t[i + 1]);
    u[i + 1] = _mm256_unpackhi_ps(t[i], t[i + 1]);
  }
  for (int i = 0; i < 8; i += 4) {
    t[i] = _mm256_shuffle_ps(u[i], u[i + 2], _MM_SHUFFLE(1, 0, 1, 0));
    t[i + 1] = _mm256_shuffle_ps(u[i], u[i + 2], _MM_SHUFFLE(3, 2, 3, 2));
    t[i + 2] = _mm256_shuffle_ps(u[i + 1], u[i + 3], _MM_SHUFFLE(1, 0, 1, 0));
    t[i + 3] = _mm256_shuffle_ps(u[i + 1], u[i + 3], _MM_SHUFFLE(3, 2, 3, 2));
  }
  for (int j = 0; j < 4; ++j) {
    _mm256_storeu_ps(reinterpret_cast<float*>(to + j * to_row), _mm256_permute2f128_ps(t[j], t[4 + j], 0x20));
    _mm256_storeu_ps(reinterpret_cast<float*>(to + (4 + j) * to_row), _mm256_permute2f128_ps(t[j], t[4 + j], 0x31));
  }
}

/// Transposes 16 x 16 words; rows behind `rows` count as zeros.
inline void transpose_tile(const std::int32_t* from, std::int64_t from_row, std::int64_t rows, std::int32_t* to,
                           std::int64_t to_row) {
  for (std::int64_t i = 0; i < kLanes; i += 8) {
    for (std::int64_t j = 0; j < kLanes; j += 8)
      transpose_quarter(from + i * from_row + j, from_row, rows - i, to + j * to_row + i, to_row);
  }
}

}  // namespace
}  // namespace mmkd::kernels
#endif
