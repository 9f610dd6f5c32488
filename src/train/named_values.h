#pragma once
#include <ATen/ATen.h>

#include <vector>

#include "mmkd/weights/tensors.h"

namespace mmkd {

/// The tensors alone.
inline std::vector<at::Tensor> values(const std::vector<NamedTensor>& named) {
  std::vector<at::Tensor> tensors;
  tensors.reserve(named.size());
  for (const auto& item : named) tensors.push_back(item.tensor);
  return tensors;
}

}  // namespace mmkd
