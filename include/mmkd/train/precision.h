#pragma once
#include <ATen/ATen.h>

#include "mmkd/config/config.h"

namespace mmkd {

/// Autocast for the life of the object, on this thread: with Precision::bf16 matrix products and attention of the given
/// device type run in bfloat16 while parameters stay float32; with fp32 autocast is off. Put it around the forward pass
/// only (backward follows the types that forward used). What was set before comes back at the end; the cache of
/// parameter casts is cleared when the outermost guard ends, so parameters must not change within one. bfloat16 needs
/// no loss scaling.
class AutocastGuard {
 public:
  AutocastGuard(at::DeviceType device, Precision precision);
  ~AutocastGuard();
  AutocastGuard(const AutocastGuard&) = delete;
  AutocastGuard& operator=(const AutocastGuard&) = delete;

 private:
  at::DeviceType device_;
  bool was_enabled_;
  at::ScalarType previous_type_;
};

}  // namespace mmkd
