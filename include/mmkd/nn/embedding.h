#pragma once
#include <ATen/ATen.h>

#include <cstdint>
#include <optional>

namespace mmkd::nn {

/// Rows of `weight` [V, D]: ids […] int64 -> […, D], like at::embedding. Rows of the id `padding` get no gradient.
at::Tensor embedding(const at::Tensor& weight, const at::Tensor& ids, std::optional<std::int64_t> padding = {});

}  // namespace mmkd::nn
