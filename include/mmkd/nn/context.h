#pragma once
#include <ATen/ATen.h>

#include <cstdint>

namespace mmkd::nn {

/// What a forward pass needs beside its inputs. Dropout masks are a pure function of (seed, step, sample key, layer,
/// position), so they depend neither on the rank nor on what was drawn before.
struct ForwardContext {
  bool training = false;
  std::uint64_t seed = 0;
  std::uint64_t step = 0;  ///< optimizer step of the stage
  at::Tensor sample_keys;  ///< [B] int64 on the CPU, the bits of Record::sample_key; needed only in training
};

}  // namespace mmkd::nn
