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
  std::uint64_t step = 0;             ///< optimizer step of the stage
  at::Tensor sample_keys;             ///< [B] int64 on the CPU, the bits of Record::sample_key; needed only in training
  const BatchRanks* ranks = nullptr;  ///< null: this rank has the whole batch
  bool recompute = false;             ///< transformer layers keep their inputs alone for backward (recompute.h)
  bool only_filler = false;           ///< the one row is the filler of a rank without samples: no statistic counts it
};

}  // namespace mmkd::nn
