#pragma once
#include <ATen/ATen.h>

#include <cstdint>

namespace mmkd::nn {

/// labels [B] int64 -> [B, classes] bool, true at each label. Unlike at::one_hot() it never looks at the values on the
/// host, which on some devices means to wait for them.
inline at::Tensor one_hot(const at::Tensor& labels, std::int64_t classes) {
  return at::arange(classes, labels.options()).unsqueeze(0).eq(labels.unsqueeze(1));
}

}  // namespace mmkd::nn
