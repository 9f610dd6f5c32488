#include "mmkd/nn/token_layout.h"

#include <algorithm>

namespace mmkd::nn {

namespace {

/// Up to a multiple of a power of two that is a sixteenth to an eighth of it.
std::int64_t rounded(std::int64_t tokens) {
  std::int64_t step = 1;
  while (16 * step <= tokens) step *= 2;
  return (tokens + step - 1) / step * step;
}

}  // namespace

TokenLayout TokenLayout::uniform(std::int64_t samples, std::int64_t tokens) {
  return {at::arange(samples + 1, at::kLong) * tokens, tokens, samples * tokens};
}

std::optional<TokenLayout> TokenLayout::of_mask(const at::Tensor& mask) {
  const std::int64_t samples = mask.size(0), padded = mask.size(1);
  const at::Tensor values = mask.contiguous();
  const bool* row = values.const_data_ptr<bool>();
  at::Tensor offsets = at::zeros({samples + 1}, at::kLong);
  auto* offset = offsets.mutable_data_ptr<std::int64_t>();
  for (std::int64_t b = 0; b < samples; ++b, row += padded) {
    const bool* end = std::find(row, row + padded, false);
    if (end == row || std::find(end, row + padded, true) != row + padded) return std::nullopt;
    offset[b + 1] = offset[b] + (end - row);
  }
  const std::int64_t rows = std::min(rounded(offset[samples]), samples * padded);
  return TokenLayout{std::move(offsets), padded, rows};
}

/// [T]: for each packed row the number of its row in [B · S, …].
at::Tensor TokenLayout::padded_rows() const {
  at::Tensor rows = at::zeros({rows_}, at::kLong);
  auto* out = rows.mutable_data_ptr<std::int64_t>();
  const auto* offset = offsets_data();
  for (std::int64_t b = 0; b < samples(); ++b) {
    for (std::int64_t i = 0; i < offset[b + 1] - offset[b]; ++i) *out++ = b * padded_ + i;
  }
  return rows;
}

at::Tensor TokenLayout::pack(const at::Tensor& padded) const {
  const at::Tensor flat = padded.flatten(0, 1);
  return is_padded() ? flat.index_select(0, padded_rows()) : flat;
}

at::Tensor TokenLayout::unpack(const at::Tensor& packed) const {
  if (!is_padded()) return packed.unflatten(0, {samples(), padded_});
  auto shape = packed.sizes().vec();
  shape[0] = samples() * padded_;
  return at::zeros(shape, packed.options())
      .index_copy(0, padded_rows().narrow(0, 0, tokens()), packed.narrow(0, 0, tokens()))
      .unflatten(0, {samples(), padded_});
}

at::Tensor TokenLayout::first(const at::Tensor& packed) const {
  if (!is_padded()) return packed.unflatten(0, {samples(), padded_}).select(1, 0);
  return packed.index_select(0, offsets_.narrow(0, 0, samples()));
}

at::Tensor TokenLayout::positions() const {
  at::Tensor result = at::zeros({rows_}, at::kLong);
  auto* out = result.mutable_data_ptr<std::int64_t>();
  const auto* offset = offsets_data();
  for (std::int64_t b = 0; b < samples(); ++b) {
    for (std::int64_t i = 0; i < offset[b + 1] - offset[b]; ++i) *out++ = i;
  }
  return result;
}

}  // namespace mmkd::nn
