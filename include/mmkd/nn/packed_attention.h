#pragma once
#include <ATen/ATen.h>

#include <cstdint>

#include "mmkd/nn/token_layout.h"

// Attention over packed tokens, without work for padding. On the CPU by a kernel of our own: several times the speed of
// PyTorch's at the sizes of small models; on CUDA by PyTorch's. T rows of a layout, D width, H heads.
namespace mmkd::nn {

/// Whether packed_attention() can serve tokens like `x` (float32 or bfloat16; under autocast, what that makes of them)
/// of `width` with `heads`: on the CPU where cpu_kernels_run(); on CUDA where PyTorch's kernels, which are tried at the
/// first call, give what they should; on other devices, where samples are padded for attention alone, always.
bool packed_attention_runs(const at::Tensor& x, std::int64_t width, std::int64_t heads);

/// softmax(QKᵀ/√d)V within each sample, differentiable. query [Tq, D] by `query_layout`, key_value [T, 2 D] by
/// `layout`, columns key, value -> [Tq, D]. All of one type, float32 or bfloat16. Where no kernel of our own runs the
/// layout must be one for a device (TokenLayout::of_lengths()). Throws Error otherwise.
at::Tensor packed_attention(const at::Tensor& query, const TokenLayout& query_layout, const at::Tensor& key_value,
                            const TokenLayout& layout, std::int64_t heads);
/// The same with qkv [T, 3 D], columns query, key, value -> [T, D].
at::Tensor packed_self_attention(const at::Tensor& qkv, const TokenLayout& layout, std::int64_t heads);

}  // namespace mmkd::nn
