#pragma once
#include <ATen/ATen.h>

#include <vector>

#include "mmkd/dist/world.h"
#include "mmkd/nn/direct_gradients.h"

namespace mmkd {

/// Collective, after a step's end_step(): the gradients of `tables`, which `direct` serves, become their means over
/// ranks. Only rows that a token of some rank met travel: a few hundred of tens of thousands.
void average_rows(const World& world, nn::DirectGradients& direct, const std::vector<at::Tensor>& tables);

}  // namespace mmkd
