#pragma once
#include <ATen/CPUGeneratorImpl.h>

#include <algorithm>

#include "mmkd/backbones/text_backbone.h"
#include "mmkd/backbones/vision_backbone.h"
#include "mmkd/nn/dropout.h"
#include "mmkd/nn/init.h"

namespace mmkd {

/// A tower with initial weights.
inline std::shared_ptr<VisionBackbone> filled(const VisionConfig& config) {
  auto tower = make_vision_backbone(config);
  nn::initialize(tower->named_weights(), 1);
  nn::assign_dropout_ids(*tower);
  return tower;
}

inline std::shared_ptr<TextBackbone> filled(const TextConfig& config) {
  auto tower = make_text_backbone(config);
  nn::initialize(tower->named_weights(), 1);
  nn::assign_dropout_ids(*tower);
  return tower;
}

inline at::Tensor pictures(at::IntArrayRef shape) {
  auto generator = at::detail::createCPUGenerator(7);
  return at::randn(shape, generator, at::kFloat);
}

inline nn::ForwardContext training(std::int64_t samples = 2) {
  return {.training = true, .seed = 1, .step = 2, .sample_keys = at::arange(5, 5 + samples, at::kLong)};
}

/// The names of a tower's weights, sorted.
template <typename Tower>
std::vector<std::string> names(const Tower& tower) {
  std::vector<std::string> result;
  for (const auto& entry : tower.named_weights()) result.push_back(entry.name);
  std::sort(result.begin(), result.end());
  return result;
}

}  // namespace mmkd
