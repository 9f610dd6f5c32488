#include "dropout_kernel.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <vector>

#include "mmkd/kernels/vector_clones.h"

// All variants of the loops below give the same bits.
namespace mmkd::nn {
namespace {

constexpr std::int64_t kBlocks = 16;          // Philox blocks computed side by side
constexpr std::int64_t kChunk = 8 * kBlocks;  // elements that they serve

/// The random bits of kChunk positions: Philox4x32-7 of the counters {first_block + i, 0, 0, 0}, lane by lane.
MMKD_ALWAYS_INLINE void random_bits(std::uint64_t key, std::uint32_t first_block, std::uint16_t* __restrict bits) {
  std::uint32_t words[4][kBlocks] = {};
  for (std::uint32_t i = 0; i < kBlocks; ++i) words[0][i] = first_block + i;
  auto key0 = static_cast<std::uint32_t>(key);
  auto key1 = static_cast<std::uint32_t>(key >> 32);
  for (int round = 0; round < 7; ++round) {
    for (std::int64_t i = 0; i < kBlocks; ++i) {
      const std::uint64_t a = std::uint64_t{0xD2511F53U} * words[0][i];
      const std::uint64_t b = std::uint64_t{0xCD9E8D57U} * words[2][i];
      words[0][i] = static_cast<std::uint32_t>(b >> 32) ^ words[1][i] ^ key0;
      words[1][i] = static_cast<std::uint32_t>(b);
      words[2][i] = static_cast<std::uint32_t>(a >> 32) ^ words[3][i] ^ key1;
      words[3][i] = static_cast<std::uint32_t>(a);
    }
    key0 += 0x9E3779B9U;
    key1 += 0xBB67AE85U;
  }
  for (std::int64_t word = 0; word < 4; ++word) {
    std::uint16_t* lanes = bits + 2 * word * kBlocks;
    for (std::int64_t i = 0; i < kBlocks; ++i) lanes[i] = static_cast<std::uint16_t>(words[word][i]);
    for (std::int64_t i = 0; i < kBlocks; ++i) lanes[kBlocks + i] = static_cast<std::uint16_t>(words[word][i] >> 16);
  }
}

// The bits of a bfloat16 stand for it, so that every step below is plain integer arithmetic.
using Bfloat16Bits = std::uint16_t;

MMKD_ALWAYS_INLINE float widen(float value) { return value; }
MMKD_ALWAYS_INLINE float widen(Bfloat16Bits value) { return std::bit_cast<float>(std::uint32_t{value} << 16); }

MMKD_ALWAYS_INLINE void narrow(float value, float& out) { out = value; }
/// Rounds to nearest even.
MMKD_ALWAYS_INLINE void narrow(float value, Bfloat16Bits& out) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t rounded = (bits + 0x7FFFU + ((bits >> 16) & 1U)) >> 16;
  const bool is_nan = (bits & 0x7FFFFFFFU) > 0x7F800000U;
  out = static_cast<Bfloat16Bits>(is_nan ? 0x7FC0U : rounded);
}

template <class T>
MMKD_ALWAYS_INLINE void apply_chunk(const T* __restrict in, T* __restrict out, const std::uint16_t* __restrict bits,
                                    DropoutRate rate) {
  for (std::int64_t i = 0; i < kChunk; ++i) {
    const float scaled = widen(in[i]) * rate.scale;
    narrow(bits[i] >= rate.threshold ? scaled : 0.0F, out[i]);
  }
}

/// Elements [begin, end) of one sample; begin is a multiple of kChunk.
template <class T>
MMKD_ALWAYS_INLINE void apply_range(const T* in, T* out, std::uint64_t key, std::int64_t begin, std::int64_t end,
                                    DropoutRate rate) {
  alignas(64) std::uint16_t bits[kChunk];
  std::int64_t at = begin;
  for (; at + kChunk <= end; at += kChunk) {
    random_bits(key, static_cast<std::uint32_t>(at / 8), bits);
    apply_chunk(in + at, out + at, bits, rate);
  }
  if (at == end) return;
  T rest[kChunk] = {};
  T result[kChunk];
  std::copy(in + at, in + end, rest);
  random_bits(key, static_cast<std::uint32_t>(at / 8), bits);
  apply_chunk(rest, result, bits, rate);
  std::copy(result, result + (end - at), out + at);
}

MMKD_VECTOR_CLONES void apply_samples(const float* in, float* out, std::uint64_t key, std::int64_t begin,
                                      std::int64_t end, DropoutRate rate) {
  apply_range(in, out, key, begin, end, rate);
}

MMKD_VECTOR_CLONES void apply_samples(const Bfloat16Bits* in, Bfloat16Bits* out, std::uint64_t key, std::int64_t begin,
                                      std::int64_t end, DropoutRate rate) {
  apply_range(in, out, key, begin, end, rate);
}

template <class T>
void apply_parallel(const T* in, T* out, std::span<const std::uint64_t> keys, std::span<const std::int64_t> ends,
                    DropoutRate rate) {
  constexpr std::int64_t kGrain = 128;   // chunks per thread, below which a second one does not pay
  std::vector<std::int64_t> chunk_ends;  // of each sample, counted over all
  chunk_ends.reserve(keys.size());
  std::int64_t begin_of_sample = 0;
  for (const std::int64_t end : ends) {
    const std::int64_t before = chunk_ends.empty() ? 0 : chunk_ends.back();
    chunk_ends.push_back(before + (end - begin_of_sample + kChunk - 1) / kChunk);
    begin_of_sample = end;
  }
  at::parallel_for(0, chunk_ends.back(), kGrain, [&](std::int64_t begin, std::int64_t end) {
    auto sample =
        static_cast<std::size_t>(std::upper_bound(chunk_ends.begin(), chunk_ends.end(), begin) - chunk_ends.begin());
    for (; begin < end; ++sample) {
      const std::int64_t first_chunk = sample == 0 ? 0 : chunk_ends[sample - 1];
      const std::int64_t first_element = sample == 0 ? 0 : ends[sample - 1];
      const std::int64_t stop = std::min(end, chunk_ends[sample]);
      if (begin >= stop) continue;  // a sample without elements
      const std::int64_t first = (begin - first_chunk) * kChunk;
      const std::int64_t last = std::min(ends[sample] - first_element, (stop - first_chunk) * kChunk);
      apply_samples(in + first_element, out + first_element, keys[sample], first, last, rate);
      begin = stop;
    }
  });
}

}  // namespace

DropoutRate::DropoutRate(double p)
    : threshold(static_cast<std::uint32_t>(std::lround(p * 65536.0))),
      scale(65536.0F / static_cast<float>(65536U - threshold)) {}

void apply_dropout(const float* in, float* out, std::span<const std::uint64_t> keys, std::span<const std::int64_t> ends,
                   DropoutRate rate) {
  apply_parallel(in, out, keys, ends, rate);
}

void apply_dropout(const c10::BFloat16* in, c10::BFloat16* out, std::span<const std::uint64_t> keys,
                   std::span<const std::int64_t> ends, DropoutRate rate) {
  static_assert(sizeof(c10::BFloat16) == sizeof(Bfloat16Bits));
  apply_parallel(reinterpret_cast<const Bfloat16Bits*>(in), reinterpret_cast<Bfloat16Bits*>(out), keys, ends, rate);
}

}  // namespace mmkd::nn
