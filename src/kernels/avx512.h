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

// What the kernels share. Only plain C++ and intrinsics: these files are compiled for instructions that other machines
// lack, and an inline function of a library that they had compiled could be taken for all of the program.
namespace mmkd::kernels {
namespace {

constexpr std::int64_t kLanes = 16;

/// e^x for x <= 0: for float32 to about one unit in the last place, else to 5e-5; 0 where it is below 1.2e-38, the
/// least normal number; NaN of NaN.
template <bool kFloat32>
__m512 exponential(__m512 x) {
  // Results that are not normal numbers would cost hundreds of cycles each. The comparison is true for NaN.
  const __mmask16 normal = _mm512_cmp_ps_mask(x, _mm512_set1_ps(-87.3F), _CMP_NLT_UQ);
  const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504F)), _MM_FROUND_TO_NEAREST_INT);
  __m512 p, r;
  if constexpr (kFloat32) {
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375F), x);  // ln 2 in two parts
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4F), r);
    p = _mm512_set1_ps(1.0F / 720);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0F / 120));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0F / 24));
  } else {
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693147181F), x);
    p = _mm512_set1_ps(1.0F / 24);
  }
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0F / 6));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.5F));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0F));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0F));
  return _mm512_maskz_scalef_ps(normal, p, n);
}

struct Float32 {
  using Value = float;
  static __m512 exponential(__m512 x) { return kernels::exponential<true>(x); }
  static constexpr std::int64_t kPerWord = 1;
  static __m512 multiply_add(__m512i a, __m512i b, __m512 sum) {
    return _mm512_fmadd_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b), sum);
  }
  static __m512 load(const Value* from) { return _mm512_loadu_ps(from); }
  static void store(Value* to, __m512 values) { _mm512_storeu_ps(to, values); }
  static __m512 load(const Value* from, __mmask16 lanes) { return _mm512_maskz_loadu_ps(lanes, from); }
  static void store(Value* to, __m512 values, __mmask16 lanes) { _mm512_mask_storeu_ps(to, lanes, values); }
};

struct Bfloat16 {
  using Value = std::uint16_t;  // its bits
  static __m512 exponential(__m512 x) { return kernels::exponential<false>(x); }
  static constexpr std::int64_t kPerWord = 2;
  static __m512 multiply_add(__m512i a, __m512i b, __m512 sum) {
    return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
  }
  static __m512 widened(__m256i bits) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
  }
  static __m256i narrowed(__m512 values) { return reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(values)); }
  static __m512 load(const Value* from) { return widened(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))); }
  static void store(Value* to, __m512 values) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), narrowed(values)); }
  static __m512 load(const Value* from, __mmask16 lanes) { return widened(_mm256_maskz_loadu_epi16(lanes, from)); }
  static void store(Value* to, __m512 values, __mmask16 lanes) {
    _mm256_mask_storeu_epi16(to, lanes, narrowed(values));
  }
};

}  // namespace
}  // namespace mmkd::kernels
#endif
