#include "mmkd/nn/token_layout.h"

#include <algorithm>

#include "mmkd/base/error.h"

namespace mmkd::nn {

namespace {

/// Up to a multiple of a power of two that is a sixteenth to an eighth of it.
std::int64_t rounded(std::int64_t tokens) {
  std::int64_t step = 1;
  while (16 * step <= tokens) step *= 2;
  return (tokens + step - 1) / step * step;
}

}  // namespace

TokenLayout TokenLayout::uniform(std::int64_t samples, std::int64_t tokens, at::Device device) {
  const auto offsets_on = [&](at::Device where, at::ScalarType type) {
    return at::arange(samples + 1, at::TensorOptions(type).device(where)) * tokens;
  };
  return {offsets_on(at::kCPU, at::kLong), tokens, samples * tokens,
          device.is_cpu() ? at::Tensor() : offsets_on(device, at::kInt)};
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

TokenLayout TokenLayout::of_lengths(const at::Tensor& lengths, std::int64_t padded, at::Device device) {
  const std::int64_t samples = lengths.size(0);
  at::Tensor offsets = at::zeros({samples + 1}, at::kLong);
  auto* offset = offsets.mutable_data_ptr<std::int64_t>();
  const at::Tensor values = lengths.contiguous();
  const auto* length = values.const_data_ptr<std::int64_t>();
  for (std::int64_t b = 0; b < samples; ++b) {
    if (length[b] < 1 || length[b] > padded)
      throw Error("token layout: sample {} has {} tokens; 1 to {} are expected", b, length[b], padded);
    offset[b + 1] = offset[b] + length[b];
  }
  at::Tensor on_device = offsets.to(at::kInt).to(device, /*non_blocking=*/true);
  const std::int64_t tokens = offset[samples];
  return {std::move(offsets), padded, tokens, std::move(on_device)};
}

/// [T] on the device: the sample that each token belongs to.
at::Tensor TokenLayout::sample_numbers() const {
  return at::repeat_interleave(device_offsets_.diff(), std::optional(rows_));
}

/// [T]: for each packed row the number of its row in [B · S, …].
at::Tensor TokenLayout::padded_rows() const {
  if (device_offsets_.defined()) return positions() + sample_numbers() * padded_;
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
  const at::Tensor& offsets = device_offsets_.defined() ? device_offsets_ : offsets_;
  return packed.index_select(0, offsets.narrow(0, 0, samples()));
}

at::Tensor TokenLayout::positions() const {
  if (device_offsets_.defined()) {
    const at::Tensor starts = device_offsets_.narrow(0, 0, samples()).to(at::kLong);
    return at::arange(rows_, starts.options()) - starts.index_select(0, sample_numbers());
  }
  at::Tensor result = at::zeros({rows_}, at::kLong);
  auto* out = result.mutable_data_ptr<std::int64_t>();
  const auto* offset = offsets_data();
  for (std::int64_t b = 0; b < samples(); ++b) {
    for (std::int64_t i = 0; i < offset[b + 1] - offset[b]; ++i) *out++ = i;
  }
  return result;
}

}  // namespace mmkd::nn
