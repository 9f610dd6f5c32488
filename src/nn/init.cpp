#include "mmkd/nn/init.h"

#include <ATen/Parallel.h>

#include <array>
#include <cmath>
#include <numbers>

#include "mmkd/base/error.h"
#include "mmkd/base/hash.h"
#include "mmkd/base/rng.h"
#include "mmkd/nn/weight_entry.h"

namespace mmkd::nn {
namespace {

/// Four numbers for the four elements of block `block`; draws with another `attempt` are independent.
class BlockSource {
 public:
  BlockSource(std::uint64_t seed, const std::string& name)
      : key_(combine_keys({seed, static_cast<std::uint64_t>(RngPurpose::init), checksum64(name)})) {}

  std::array<double, 4> uniform(std::uint64_t block) const {
    const auto words = bits(block, 0);
    std::array<double, 4> values;
    for (std::size_t i = 0; i < 4; ++i) values[i] = (words[i] + 0.5) * 0x1.0p-31 - 1.0;
    return values;
  }

  /// Box–Muller: one pair of words gives two independent normal numbers.
  std::array<double, 4> normal(std::uint64_t block, std::uint32_t attempt) const {
    const auto words = bits(block, attempt);
    std::array<double, 4> values;
    for (std::size_t i = 0; i < 4; i += 2) {
      const double radius = std::sqrt(-2.0 * std::log((words[i] + 0.5) * 0x1.0p-32));
      const double angle = 2.0 * std::numbers::pi * words[i + 1] * 0x1.0p-32;
      values[i] = radius * std::cos(angle);
      values[i + 1] = radius * std::sin(angle);
    }
    return values;
  }

 private:
  std::array<std::uint32_t, 4> bits(std::uint64_t block, std::uint32_t attempt) const {
    return philox4x32<10>({static_cast<std::uint32_t>(block), static_cast<std::uint32_t>(block >> 32), attempt, 0},
                          {static_cast<std::uint32_t>(key_), static_cast<std::uint32_t>(key_ >> 32)});
  }
  std::uint64_t key_;
};

std::array<double, 4> draw(const Init& init, const BlockSource& source, std::uint64_t block) {
  if (init.kind == Init::Kind::uniform) {
    auto values = source.uniform(block);
    for (auto& value : values) value *= init.scale;
    return values;
  }
  auto values = source.normal(block, 0);
  for (std::size_t i = 0; i < 4; ++i) {
    values[i] *= init.scale;
    for (std::uint32_t attempt = 1; std::abs(values[i]) > init.limit; ++attempt) {
      values[i] = init.scale * source.normal(block, attempt)[i];
    }
  }
  return values;
}

void fill_random(const Init& init, const BlockSource& source, float* values, std::int64_t count) {
  constexpr std::int64_t kGrain = 4096;  // blocks per thread, below which a second one does not pay
  at::parallel_for(0, (count + 3) / 4, kGrain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t block = begin; block < end; ++block) {
      const auto drawn = draw(init, source, static_cast<std::uint64_t>(block));
      for (std::int64_t i = 0; i < std::min<std::int64_t>(4, count - 4 * block); ++i) {
        values[4 * block + i] = static_cast<float>(drawn[static_cast<std::size_t>(i)]);
      }
    }
  });
}

}  // namespace

Init Init::kaiming_fan_out(std::int64_t fan_out) { return normal(std::sqrt(2.0 / static_cast<double>(fan_out))); }

Init Init::fan_in(std::int64_t inputs) { return uniform(1.0 / std::sqrt(static_cast<double>(inputs))); }

Init Init::xavier_uniform(std::int64_t inputs, std::int64_t outputs) {
  return uniform(std::sqrt(6.0 / static_cast<double>(inputs + outputs)));
}

void initialize(std::span<const WeightEntry> entries, std::uint64_t seed) {
  const at::NoGradGuard no_grad;
  for (const auto& entry : entries) {
    at::Tensor view = entry.view;
    if (entry.init.kind == Init::Kind::constant) {
      view.fill_(entry.init.scale);
    } else {
      // Made on the CPU whatever the device is, so that the values are the same.
      const bool in_place = view.is_cpu() && view.scalar_type() == at::kFloat && view.is_contiguous();
      at::Tensor values = in_place ? view : at::empty(view.sizes(), at::kFloat);
      fill_random(entry.init, BlockSource(seed, entry.name), values.mutable_data_ptr<float>(), values.numel());
      if (!in_place) view.copy_(values);
    }
    if (entry.init.zero_row >= 0) view.select(0, entry.init.zero_row).zero_();
  }
}

}  // namespace mmkd::nn
