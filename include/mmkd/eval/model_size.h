#pragma once
#include <cstdint>
#include <functional>

#include "mmkd/models/multimodal_model.h"
#include "mmkd/train/batch.h"

namespace mmkd {

/// Floating-point operations of the matrix products, convolutions and attentions that `work` runs on this thread; a
/// multiply-add counts as two.
std::int64_t count_flops(const std::function<void()>& work);

/// Of one sample with a text of `tokens` tokens, evaluation.
std::int64_t flops_per_sample(MultimodalModel& model, const InputSpec& input, std::int64_t tokens);

struct Latency {
  double median_ms = 0, p90_ms = 0;
  std::int64_t runs = 0;
};
/// Forward passes of single samples, one after the other, on the model's device; after a warm-up.
Latency measure_latency(MultimodalModel& model, const InputSpec& input, std::int64_t tokens, at::Device device,
                        Precision precision);

}  // namespace mmkd
