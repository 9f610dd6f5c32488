#pragma once
#include <cstdint>

#include "mmkd/kernels/element.h"

// Passes over rows of activations that PyTorch makes one after the other, each in one: the sum of a residual and a
// branch with its layer norm, and GELU. For CPUs with the instructions that element.h names.
namespace mmkd::kernels {

/// A matrix of either type, or none (`data` null).
struct ConstMatrix {
  const void* data = nullptr;
  Element element = Element::float32;
};
struct Matrix {
  void* data = nullptr;
  Element element = Element::float32;
};

struct NormParameters {
  std::int64_t width;  ///< D, a multiple of 16
  float eps;
  const float* weight;  ///< [D]
  const float* bias;    ///< [D]
};

/// What the forward pass keeps for backward: the rows that were normalised, their mean and 1/deviation.
struct NormStatistics {
  const float* sum;          ///< [rows, D]
  const float *mean, *rstd;  ///< [rows]
};

/// All matrices [rows, D], contiguous. sum = residual + branch; normed = layer norm of it, written to `normed` and,
/// where given, to `normed_too` in another type. `sum` may be `residual` where there is no branch.
void residual_norm_forward(const NormParameters& parameters, std::int64_t rows, const float* residual,
                           ConstMatrix branch, float* sum, Matrix normed, Matrix normed_too, float* mean, float* rstd);

/// Gradients of what the forward pass gave, each null where there is none -> those of residual and branch (the same
/// numbers, in the type of each; `branch` null: not wanted). `weight` and `bias` [D] are added to.
struct NormGradients {
  ConstMatrix normed, normed_too;
  const float* sum;
};
void residual_norm_backward(const NormParameters& parameters, std::int64_t rows, const NormStatistics& statistics,
                            const NormGradients& gradients, float* residual, Matrix branch, float* weight, float* bias);

/// out = x Φ(x), Φ by erf to an absolute error of 1.5e-7 (Abramowitz and Stegun 7.1.26).
void gelu_forward(Element element, const void* x, void* out, std::int64_t count);
/// Gradient of x from that of out, which may lie in the same place; where `out` is given, out once more.
void gelu_backward(Element element, const void* x, const void* out_gradient, void* gradient, void* out,
                   std::int64_t count);

/// sums [columns] of x [rows, columns] bfloat16, whose rows begin `stride` elements apart; columns a multiple of 16.
void column_sums(const std::uint16_t* x, std::int64_t stride, std::int64_t rows, std::int64_t columns, float* sums);

}  // namespace mmkd::kernels
