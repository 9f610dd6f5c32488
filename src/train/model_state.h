#pragma once
#include <vector>

#include "mmkd/models/multimodal_model.h"
#include "mmkd/train/checkpoint.h"

namespace mmkd {

/// Parameters and buffers under their own names, sharing the model's memory.
std::vector<NamedTensor> weights_of(const MultimodalModel& model);

/// Copies on the CPU.
std::vector<NamedTensor> snapshot(const std::vector<NamedTensor>& named);

}  // namespace mmkd
