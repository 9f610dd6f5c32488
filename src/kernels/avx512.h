#pragma once
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__) && \
    defined(__AVX512BF16__)
#define MMKD_AVX512 1

#if !defined(__clang__)  // GCC 12's own headers start vectors from uninitialised ones on purpose
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>

#include <cstdint>

namespace mmkd::kernels {
namespace {

constexpr std::int64_t kLanes = 16;

using Vector = __m512;   // of float32
using Words = __m512i;   // of 32 bits
using Mask = __mmask16;  // of lanes

inline Vector zeros() { return _mm512_setzero_ps(); }
inline Vector spread(float x) { return _mm512_set1_ps(x); }
inline Words spread_word(std::int32_t x) { return _mm512_set1_epi32(x); }
inline Vector as_floats(Words x) { return _mm512_castsi512_ps(x); }
inline Vector load_floats(const float* from) { return _mm512_loadu_ps(from); }
inline void store_floats(float* to, Vector x) { _mm512_storeu_ps(to, x); }
inline Vector load_floats(const float* from, Mask lanes) { return _mm512_maskz_loadu_ps(lanes, from); }
inline void store_floats(float* to, Vector x, Mask lanes) { _mm512_mask_storeu_ps(to, lanes, x); }
inline Words load_words(const std::int32_t* from) { return _mm512_loadu_si512(from); }

inline Vector add(Vector a, Vector b) { return _mm512_add_ps(a, b); }
inline Vector subtract(Vector a, Vector b) { return _mm512_sub_ps(a, b); }
inline Vector multiply(Vector a, Vector b) { return _mm512_mul_ps(a, b); }
inline Vector divide(Vector a, Vector b) { return _mm512_div_ps(a, b); }
inline Vector multiply_add(Vector a, Vector b, Vector c) { return _mm512_fmadd_ps(a, b, c); }           // a b + c
inline Vector multiply_subtract(Vector a, Vector b, Vector c) { return _mm512_fmsub_ps(a, b, c); }      // a b - c
inline Vector negated_multiply_add(Vector a, Vector b, Vector c) { return _mm512_fnmadd_ps(a, b, c); }  // c - a b
inline Vector larger(Vector a, Vector b) { return _mm512_max_ps(a, b); }
inline Vector absolute(Vector a) { return _mm512_abs_ps(a); }
inline Vector rounded(Vector a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT); }
/// a · 2ⁿ for whole n, where the result is a normal number.
inline Vector times_power_of_two(Vector a, Vector n) { return _mm512_scalef_ps(a, n); }

inline Mask lanes_below(std::int64_t count) {
  if (count <= 0) return 0;
  return count >= kLanes ? static_cast<Mask>(0xFFFF) : static_cast<Mask>((1U << static_cast<unsigned>(count)) - 1U);
}
inline Mask below(Vector a, Vector b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
inline Mask not_below(Vector a, Vector b) { return _mm512_cmp_ps_mask(a, b, _CMP_NLT_UQ); }  // true for NaN
inline Vector choose(Mask lanes, Vector a, Vector b) { return _mm512_mask_mov_ps(b, lanes, a); }
inline Vector only(Mask lanes, Vector a) { return _mm512_maskz_mov_ps(lanes, a); }

inline float sum_of(Vector x) { return _mm512_reduce_add_ps(x); }
inline float largest_of(Vector x) { return _mm512_reduce_max_ps(x); }

struct Bfloat16 {
  using Value = std::uint16_t;          // its bits
  static Vector exponential(Vector x);  // vectors.h
  static constexpr std::int64_t kPerWord = 2;
  static Vector multiply_add(Words a, Words b, Vector sum) {
    return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
  }
  static Vector widened(__m256i bits) { return as_floats(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16)); }
  static __m256i narrowed(Vector values) { return reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(values)); }
  static Vector load(const Value* from) { return widened(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))); }
  static void store(Value* to, Vector values) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), narrowed(values)); }
  static Vector load(const Value* from, Mask lanes) { return widened(_mm256_maskz_loadu_epi16(lanes, from)); }
  static void store(Value* to, Vector values, Mask lanes) { _mm256_mask_storeu_epi16(to, lanes, narrowed(values)); }
};

/// Transposes 16 x 16 words; rows behind `rows` count as zeros.
inline void transpose_tile(const std::int32_t* from, std::int64_t from_row, std::int64_t rows, std::int32_t* to,
                           std::int64_t to_row) {
  __m512i t[16], u[16];
  for (int i = 0; i < 16; ++i) t[i] = i < rows ? _mm512_loadu_si512(from + i * from_row) : _mm512_setzero_si512();
  for (int i = 0; i < 16; i += 2) {
    u[i] = _mm512_unpacklo_epi32(t[i], t[i + 1]);
    u[i + 1] = _mm512_unpackhi_epi32(t[i], t[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {
    t[i] = _mm512_unpacklo_epi64(u[i], u[i + 2]);
    t[i + 1] = _mm512_unpackhi_epi64(u[i], u[i + 2]);
    t[i + 2] = _mm512_unpacklo_epi64(u[i + 1], u[i + 3]);
    t[i + 3] = _mm512_unpackhi_epi64(u[i + 1], u[i + 3]);
  }
  // t[4 g + j]: of rows 4 g … 4 g + 3, columns j, 4 + j, 8 + j, 12 + j in its quarters
  for (int j = 0; j < 4; ++j) {
    const __m512i a = _mm512_shuffle_i32x4(t[j], t[4 + j], 0x88), b = _mm512_shuffle_i32x4(t[8 + j], t[12 + j], 0x88);
    const __m512i c = _mm512_shuffle_i32x4(t[j], t[4 + j], 0xDD), d = _mm512_shuffle_i32x4(t[8 + j], t[12 + j], 0xDD);
    _mm512_storeu_si512(to + j * to_row, _mm512_shuffle_i32x4(a, b, 0x88));
    _mm512_storeu_si512(to + (8 + j) * to_row, _mm512_shuffle_i32x4(a, b, 0xDD));
    _mm512_storeu_si512(to + (4 + j) * to_row, _mm512_shuffle_i32x4(c, d, 0x88));
    _mm512_storeu_si512(to + (12 + j) * to_row, _mm512_shuffle_i32x4(c, d, 0xDD));
  }
}

}  // namespace
}  // namespace mmkd::kernels
#endif
