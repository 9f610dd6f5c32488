#pragma once
#include "mmkd/kernels/attention.h"
#include "mmkd/kernels/norm.h"

namespace mmkd::kernels {

/// The kernels for one set of instructions; what they do is said where they are declared for everybody.
struct KernelTable {
  void (*attention_forward)(Element, const HeadShape&, const HeadInput&, Rows, float*, void*);
  void (*attention_backward)(Element, const HeadShape&, const HeadInput&, ConstRows, ConstRows, const float*,
                             const HeadGradients&, void*);
  void (*residual_norm_forward)(const NormParameters&, std::int64_t, const float*, ConstMatrix, float*, Matrix, Matrix,
                                float*, float*);
  void (*residual_norm_backward)(const NormParameters&, std::int64_t, const NormStatistics&, const NormGradients&,
                                 float*, Matrix, float*, float*);
  void (*gelu_forward)(Element, const void*, void*, std::int64_t);
  void (*gelu_backward)(Element, const void*, const void*, void*, void*, std::int64_t);
  void (*column_sums)(const std::uint16_t*, std::int64_t, std::int64_t, std::int64_t, float*);
};

/// Null where they have not been compiled.
extern const KernelTable* const avx512_kernels;  // of float32 and bfloat16
extern const KernelTable* const avx2_kernels;    // of float32; column_sums null

/// Those that this machine runs. There must be some.
const KernelTable& kernel_table();

}  // namespace mmkd::kernels
