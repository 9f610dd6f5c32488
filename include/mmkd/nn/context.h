#pragma once
#include <ATen/ATen.h>

#include <cstdint>

namespace mmkd::nn {

/// The ranks that share a global batch, as batch norms see them.
class BatchRanks {
 public:
  virtual ~BatchRanks() = default;
  /// Collective: every rank must call, in the same order. [n] of every rank -> [ranks, n] in rank order; no gradient.
  virtual at::Tensor all_gather(const at::Tensor& values) const = 0;
};

/// What a forward pass needs beside its inputs. Random numbers are a pure function of (seed, step, sample key, layer,
/// position), so they depend neither on the rank nor on what was drawn before.
struct ForwardContext {
  bool training = false;
  std::uint64_t seed = 0;
  std::uint64_t step = 0;  ///< optimizer step of the stage
  at::Tensor sample_keys;  ///< [B] int64 on the CPU, the bits of Record::sample_key; needed only in training
  at::Tensor device_keys;  ///< the same on the device of the model; undefined: not copied there yet
  at::Tensor device_step;  ///< step, [1] int64 on the device of the model; undefined: not copied there yet
  /// The device's work is recorded, to be repeated for other batches and steps: nothing may be made on the host and
  /// copied to the device. Layers that would do so throw Error.
  bool recorded = false;
  const BatchRanks* ranks = nullptr;  ///< null: this rank has the whole batch
  bool recompute = false;             ///< transformer layers keep their inputs alone for backward (recompute.h)
  bool only_filler = false;           ///< the one row is the filler of a rank without samples: no statistic counts it
};

}  // namespace mmkd::nn
