#pragma once
#include <ATen/ATen.h>
#include <torch/nn/module.h>

#include <cstdint>

#include "mmkd/nn/context.h"
#include "mmkd/nn/token_layout.h"

// Dropout whose masks are a pure function of (seed, step, sample, layer, position within the sample), so that they are
// the same on any number of ranks, for any order of the batch, any padding and on any device, and a checkpoint needs no
// generator state.
//
// Position i of a sample is the linear index within its [S, D] (or [D]) block, so padding behind a sequence changes
// nothing. Random bits come from Philox4x32-7, keyed by combine_keys({seed, RngPurpose::dropout, step, layer, sample}):
// one block of counter {b, 0, 0, 0} has eight 16-bit lanes (low half of word 0, high half of word 0, low half of word
// 1, …), and position i takes lane (i % 128) / 16 of block 16 (i / 128) + i % 16. The element is dropped if its 16 bits
// are below round(p · 65536), and scaled by 65536 / (65536 - round(p · 65536)) otherwise.
namespace mmkd::nn {

/// Dropout over x [B, …], differentiable; the mask is made again in backward rather than kept. `layer_id` tells dropout
/// layers apart. Gives x itself outside training and for p = 0. Throws Error if p is outside [0, 1) or the context does
/// not have B sample keys.
at::Tensor keyed_dropout(const at::Tensor& x, double p, std::uint64_t layer_id, const ForwardContext& context);

/// The same over packed tokens x [T, …], float32 or bfloat16 on the CPU or CUDA: what padded tokens get.
at::Tensor keyed_dropout(const at::Tensor& x, const TokenLayout& layout, double p, std::uint64_t layer_id,
                         const ForwardContext& context);

/// The definition above in tensor operations, for any device: true at kept positions, [B, positions] bool.
/// keyed_dropout() takes it where there is no kernel of its own: of float64, and on CUDA without the plug-in's.
at::Tensor keyed_dropout_mask(std::int64_t positions, double p, std::uint64_t layer_id, const ForwardContext& context,
                              at::Device device);

/// A dropout layer. Its id is given once the whole model stands, by assign_dropout_ids().
class Dropout : public torch::nn::Module {
 public:
  explicit Dropout(double probability);
  at::Tensor forward(const at::Tensor& x, const ForwardContext& context) const;
  at::Tensor forward(const at::Tensor& x, const TokenLayout& layout, const ForwardContext& context) const;
  /// Whether forward() gives something else than x.
  bool acts(const ForwardContext& context) const;

  double p;
  std::uint64_t layer_id = 0;
};

/// Gives each Dropout inside `root` an id that depends on its path in the module tree ("text.layers.0.output_dropout").
void assign_dropout_ids(const torch::nn::Module& root);

}  // namespace mmkd::nn
