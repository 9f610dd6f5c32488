#pragma once
#include <ATen/ATen.h>

#include <cstdint>

#include "mmkd/base/rng.h"
#include "mmkd/nn/context.h"

namespace mmkd::nn {

/// Uniform numbers in (0, 1) that depend on (seed, purpose, step, layer, sample, column) alone: [B, columns] float32 on
/// `device`. Throws Error without sample keys in the context.
at::Tensor keyed_uniform(std::int64_t columns, RngPurpose purpose, std::uint64_t layer_id,
                         const ForwardContext& context, at::Device device);

/// Standard Gumbel noise, −log(−log u), of the same kind.
at::Tensor keyed_gumbel(std::int64_t columns, RngPurpose purpose, std::uint64_t layer_id, const ForwardContext& context,
                        at::Device device);

}  // namespace mmkd::nn
