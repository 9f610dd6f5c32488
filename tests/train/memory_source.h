#pragma once
#include <string>
#include <vector>

#include "mmkd/train/batch.h"

namespace mmkd::testing {

/// Samples in memory: two image streams (2x3, and 1x1), two token streams of different lengths, two tasks. Every value
/// tells the sample that it is from.
class MemorySource final : public SampleSource {
 public:
  explicit MemorySource(std::int64_t count) {
    for (std::int64_t i = 0; i < count; ++i) {
      Sample sample{.id = "s" + std::to_string(i)};
      for (int k = 0; k < 18; ++k) sample.pixels.push_back(static_cast<std::uint8_t>(10 * i + k));
      sample.small = {static_cast<std::uint8_t>(i), static_cast<std::uint8_t>(i + 1), static_cast<std::uint8_t>(i + 2)};
      sample.tokens.assign(static_cast<std::size_t>(2 + i % 4), static_cast<std::int32_t>(100 + i));
      sample.other_tokens.assign(static_cast<std::size_t>(3 + i % 2), static_cast<std::int32_t>(200 + i));
      sample.labels = {static_cast<std::int32_t>(i % 2), static_cast<std::int32_t>(i % 5)};
      samples_.push_back(std::move(sample));
    }
  }
  std::int64_t size() const override { return static_cast<std::int64_t>(samples_.size()); }
  Record get(std::int64_t i) const override {
    const auto& s = samples_.at(static_cast<std::size_t>(i));
    return {.id = s.id,
            .sample_key = 0xF000000000000000ULL + static_cast<std::uint64_t>(i),
            .pixels = {s.pixels, s.small},
            .tokens = {s.tokens, s.other_tokens},
            .labels = s.labels};
  }

 private:
  struct Sample {
    std::string id;
    std::vector<std::uint8_t> pixels, small;
    std::vector<std::int32_t> tokens, other_tokens, labels;
  };
  std::vector<Sample> samples_;
};

inline InputSpec large_spec() {
  return {.image_stream = 0, .height = 2, .width = 3, .policy = {}, .token_stream = 0, .pad_id = 0};
}
inline InputSpec small_spec() {
  return {.image_stream = 1, .height = 1, .width = 1, .policy = {}, .token_stream = 1, .pad_id = 9};
}

}  // namespace mmkd::testing
