#pragma once
// Vectors of 16 float32 and what the kernels do with them, in the instructions that a file is compiled for: AVX-512
// with bfloat16, or AVX2 with FMA, float32 alone. Both round at the same places and add up in the same order, so that
// they give the same bits. Neither defined: no kernels.
//
// Only plain C++ and intrinsics: these files are compiled for instructions that other machines lack, and an inline
// function of a library that they had compiled could be taken for all of the program.
#include "avx2.h"
#include "avx512.h"

#if defined(MMKD_AVX512) || defined(MMKD_AVX2)
#define MMKD_VECTORS 1
namespace mmkd::kernels {
namespace {

/// e^x for x <= 0: for float32 to about one unit in the last place, else to 5e-5; 0 where it is below 1.2e-38, the
/// least normal number; NaN of NaN.
template <bool kFloat32>
Vector exponential(Vector x) {
  // Results that are not normal numbers would cost hundreds of cycles each. The comparison is true for NaN.
  const Mask normal = not_below(x, spread(-87.3F));
  const Vector n = rounded(multiply(x, spread(1.44269504F)));
  Vector p, r;
  if constexpr (kFloat32) {
    r = negated_multiply_add(n, spread(0.693359375F), x);  // ln 2 in two parts
    r = negated_multiply_add(n, spread(-2.12194440e-4F), r);
    p = spread(1.0F / 720);
    p = multiply_add(p, r, spread(1.0F / 120));
    p = multiply_add(p, r, spread(1.0F / 24));
  } else {
    r = negated_multiply_add(n, spread(0.693147181F), x);
    p = spread(1.0F / 24);
  }
  p = multiply_add(p, r, spread(1.0F / 6));
  p = multiply_add(p, r, spread(0.5F));
  p = multiply_add(p, r, spread(1.0F));
  p = multiply_add(p, r, spread(1.0F));
  return only(normal, times_power_of_two(p, n));
}

struct Float32 {
  using Value = float;
  static Vector exponential(Vector x) { return kernels::exponential<true>(x); }
  static constexpr std::int64_t kPerWord = 1;
  static Vector multiply_add(Words a, Words b, Vector sum) {
    return kernels::multiply_add(as_floats(a), as_floats(b), sum);
  }
  static Vector load(const Value* from) { return load_floats(from); }
  static void store(Value* to, Vector values) { store_floats(to, values); }
  static Vector load(const Value* from, Mask lanes) { return load_floats(from, lanes); }
  static void store(Value* to, Vector values, Mask lanes) { store_floats(to, values, lanes); }
};

#ifdef MMKD_AVX512
inline Vector Bfloat16::exponential(Vector x) { return kernels::exponential<false>(x); }
#endif

}  // namespace
}  // namespace mmkd::kernels
#endif
