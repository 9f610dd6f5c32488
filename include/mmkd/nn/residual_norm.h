#pragma once
#include <ATen/ATen.h>

#include <optional>

#include "mmkd/nn/layers.h"

// Passes over activations that PyTorch makes one after the other, differentiable: in one where cpu_kernels_run(), by
// PyTorch's operators elsewhere. The last dimension is a multiple of 16.
namespace mmkd::nn {

struct ResidualNormOutput {
  at::Tensor sum;           ///< [T, D] float32: residual + branch; undefined where it was not wanted
  at::Tensor normed;        ///< [T, D] in the type that was asked for
  at::Tensor normed_float;  ///< [T, D] float32: the same; undefined where it was not wanted
};

enum class Keep {
  sum,    ///< with norms before the sublayers: the sum is the next residual
  normed  ///< with norms behind them: its norm is
};

/// The layer norm of residual + branch. residual [T, D] float32; branch [T, D] float32 or bfloat16, undefined: 0 (the
/// sum is then the residual itself); `type` float32 or bfloat16.
ResidualNormOutput residual_norm(const at::Tensor& residual, const at::Tensor& branch, const LayerNorm& norm, Keep keep,
                                 at::ScalarType type);

}  // namespace mmkd::nn
