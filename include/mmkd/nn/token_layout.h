#pragma once
#include <ATen/ATen.h>

#include <cstdint>
#include <optional>

namespace mmkd::nn {

/// Where the tokens of B samples stand in a packed tensor [T, …]: one sample's behind the other's, without padding. A
/// few rows may follow the last token, which stand for nothing: with T rounded up, batches come in few sizes, for which
/// matrix kernels and memory blocks exist already. What is computed for them must never reach a result; it is finite.
class TokenLayout {
 public:
  /// Every sample has `tokens` of them.
  static TokenLayout uniform(std::int64_t samples, std::int64_t tokens, at::Device device = at::kCPU);
  /// The true values of mask [B, S] bool, on the CPU, and rows behind them up to a multiple of a sixteenth to an
  /// eighth. Nothing where those of a sample are not the first of its row, or where it has none.
  static std::optional<TokenLayout> of_mask(const at::Tensor& mask);
  /// The first lengths[b] of S tokens of each sample; lengths [B] int64 on the CPU, each 1 … S. Without rows behind
  /// them, and what packing needs is computed on `device`, so that nothing waits for it.
  static TokenLayout of_lengths(const at::Tensor& lengths, std::int64_t padded, at::Device device);

  std::int64_t samples() const { return offsets_.size(0) - 1; }
  std::int64_t tokens() const { return offsets_data()[samples()]; }
  std::int64_t rows() const { return rows_; }  ///< T, at least tokens()
  /// [B + 1] int64 on the CPU: sample b has rows offsets[b] … offsets[b + 1] - 1.
  const at::Tensor& offsets() const { return offsets_; }
  const std::int64_t* offsets_data() const { return offsets_.const_data_ptr<std::int64_t>(); }
  /// The same as int32 on the device of of_lengths() and uniform(); undefined on the CPU otherwise.
  const at::Tensor& device_offsets() const { return device_offsets_; }
  std::int64_t padded() const { return padded_; }  ///< S, at least the tokens of the longest sample

  /// The real elements of padded [B, S, …] -> [T, …]. Rows behind them repeat the first.
  at::Tensor pack(const at::Tensor& padded) const;
  /// [T, …] -> [B, S, …], zeros at padding.
  at::Tensor unpack(const at::Tensor& packed) const;
  /// The first token of each sample: [T, …] -> [B, …].
  at::Tensor first(const at::Tensor& packed) const;
  /// The number of each token within its sample, [T] int64; 0 behind the tokens.
  at::Tensor positions() const;

 private:
  TokenLayout(at::Tensor offsets, std::int64_t padded, std::int64_t rows, at::Tensor device_offsets = {})
      : offsets_(std::move(offsets)), device_offsets_(std::move(device_offsets)), padded_(padded), rows_(rows) {}
  bool is_padded() const { return tokens() != samples() * padded_; }
  at::Tensor sample_numbers() const;
  at::Tensor padded_rows() const;

  at::Tensor offsets_, device_offsets_;
  std::int64_t padded_;  // S
  std::int64_t rows_;
};

}  // namespace mmkd::nn
