#include "mmkd/base/rng.h"

#include <cmath>
#include <numbers>
#include <numeric>
#include <utility>

namespace mmkd {
namespace {

std::uint64_t key_of(std::uint64_t seed, RngPurpose purpose, std::initializer_list<std::uint64_t> parts) {
  std::uint64_t key = combine_keys({seed, static_cast<std::uint64_t>(purpose)});
  for (const auto part : parts) key = combine_keys({key, part});
  return key;
}

}  // namespace

KeyedRng::KeyedRng(std::uint64_t seed, RngPurpose purpose, std::initializer_list<std::uint64_t> parts)
    : key_(key_of(seed, purpose, parts)) {}

std::uint32_t KeyedRng::next_u32() {
  if (used_ == 4) {
    block_ = philox4x32<10>({static_cast<std::uint32_t>(counter_), static_cast<std::uint32_t>(counter_ >> 32), 0, 0},
                            {static_cast<std::uint32_t>(key_), static_cast<std::uint32_t>(key_ >> 32)});
    ++counter_;
    used_ = 0;
  }
  return block_[static_cast<std::size_t>(used_++)];
}

std::uint64_t KeyedRng::next_u64() {
  const std::uint64_t low = next_u32();
  return low | (static_cast<std::uint64_t>(next_u32()) << 32);
}

std::uint64_t KeyedRng::below(std::uint64_t n) {
  // Values under 2^64 mod n would favour the small results; they are drawn again.
  const std::uint64_t reject = (0 - n) % n;
  for (;;) {
    const std::uint64_t x = next_u64();
    if (x >= reject) return x % n;
  }
}

double KeyedRng::uniform() { return static_cast<double>(next_u64() >> 11) * 0x1.0p-53; }

double KeyedRng::normal() {
  const double radius = std::sqrt(-2.0 * std::log(1.0 - uniform()));
  return radius * std::cos(2.0 * std::numbers::pi * uniform());
}

std::vector<std::uint32_t> KeyedRng::permutation(std::uint32_t n) {
  std::vector<std::uint32_t> order(n);
  std::iota(order.begin(), order.end(), 0U);
  for (std::uint32_t i = n; i > 1; --i) std::swap(order[i - 1], order[below(i)]);
  return order;
}

}  // namespace mmkd
