#pragma once
#include <c10/util/BFloat16.h>

#include <cstdint>
#include <span>

namespace mmkd::nn {

/// 16-bit comparison value and scale of a dropout probability.
struct DropoutRate {
  explicit DropoutRate(double p);
  std::uint32_t threshold;  ///< an element is dropped if its 16 random bits are below; 0 … 65535
  float scale;              ///< of the elements that are kept
};

/// out = dropout(in), both contiguous on the CPU, of samples that lie behind one another: sample s, with key keys[s],
/// has elements ends[s - 1] … ends[s] - 1. See nn/dropout.h for which random bits belong to which position in a sample.
void apply_dropout(const float* in, float* out, std::span<const std::uint64_t> keys, std::span<const std::int64_t> ends,
                   DropoutRate rate);
void apply_dropout(const c10::BFloat16* in, c10::BFloat16* out, std::span<const std::uint64_t> keys,
                   std::span<const std::int64_t> ends, DropoutRate rate);

}  // namespace mmkd::nn
