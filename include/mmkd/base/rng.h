#pragma once
#include <array>
#include <cstdint>
#include <initializer_list>
#include <vector>

namespace mmkd {

/// What a keyed random number is for; part of every key, so that two uses never share a stream. Append only: the
/// values are part of what makes a run reproducible.
enum class RngPurpose : std::uint32_t {
  shuffle = 1,     ///< order of the samples of an epoch
  init = 2,        ///< initial weights
  dropout = 3,     ///< dropout masks
  modality = 4,    ///< modality dropout
  routing = 5,     ///< Gumbel noise of routed fusions
  augment = 6,     ///< augmented views
  perturb = 7,     ///< robustness studies
  demo = 8,        ///< generated demo data
  split = 9,       ///< dataset splits
  bootstrap = 10,  ///< confidence intervals
};

/// Philox4x32-`rounds` (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): 128 random bits as a
/// pure function of counter and key.
template <int rounds = 10>
constexpr std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 4> counter,
                                                  std::array<std::uint32_t, 2> key) {
  for (int i = 0; i < rounds; ++i) {
    const std::uint64_t a = 0xD2511F53ULL * counter[0];
    const std::uint64_t b = 0xCD9E8D57ULL * counter[2];
    counter = {static_cast<std::uint32_t>(b >> 32) ^ counter[1] ^ key[0], static_cast<std::uint32_t>(b),
               static_cast<std::uint32_t>(a >> 32) ^ counter[3] ^ key[1], static_cast<std::uint32_t>(a)};
    key[0] += 0x9E3779B9U;
    key[1] += 0xBB67AE85U;
  }
  return counter;
}

/// Bijective 64-bit mix (splitmix64's finaliser).
constexpr std::uint64_t mix64(std::uint64_t x) {
  x ^= x >> 30;
  x *= 0xBF58476D1CE4E5B9ULL;
  x ^= x >> 27;
  x *= 0x94D049BB133111EBULL;
  return x ^ (x >> 31);
}

/// combine_keys() of the parts of `key` and one more.
constexpr std::uint64_t extend_key(std::uint64_t key, std::uint64_t part) {
  return mix64(key + 0x9E3779B97F4A7C15ULL + mix64(part));
}

/// One 64-bit key out of several parts; the order of the parts counts.
constexpr std::uint64_t combine_keys(std::initializer_list<std::uint64_t> parts) {
  std::uint64_t h = 0x6A09E667F3BCC909ULL;
  for (const auto part : parts) h = extend_key(h, part);
  return h;
}

/// A stream of random numbers that depends on its key alone: never on a worker, a rank or an order of arrival.
class KeyedRng {
 public:
  KeyedRng(std::uint64_t seed, RngPurpose purpose, std::initializer_list<std::uint64_t> parts = {});
  std::uint32_t next_u32();
  std::uint64_t next_u64();
  /// Uniform in [0, n), without bias. n > 0.
  std::uint64_t below(std::uint64_t n);
  /// Uniform in [0, 1), 53 bits.
  double uniform();
  /// Standard normal (Box–Muller).
  double normal();
  /// A random order of 0 … n-1 (Fisher–Yates).
  std::vector<std::uint32_t> permutation(std::uint32_t n);

 private:
  std::uint64_t key_;
  std::uint64_t counter_ = 0;
  std::array<std::uint32_t, 4> block_{};
  int used_ = 4;
};

}  // namespace mmkd
