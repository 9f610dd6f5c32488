#pragma once
#include <ATen/ATen.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "mmkd/weights/tensors.h"

namespace mmkd {

/// What a checkpoint holds: numbers and history in `state`, tensors by name.
struct TrainingState {
  std::int64_t step = 0;  ///< optimizer steps done
  nlohmann::ordered_json state;
  std::vector<NamedTensor> tensors;  ///< on the CPU
};

/// `ckpt-<step>/` folders under one work folder (docs/formats/checkpoint.md). Written by rank 0 alone: built aside,
/// every file with its SHA-256 in manifest.json, renamed into place last.
class CheckpointStore {
 public:
  /// The newest `keep` (>= 1) checkpoints are kept.
  CheckpointStore(std::filesystem::path folder, std::int64_t keep);
  /// Throws Error when it cannot be written; older checkpoints are intact then.
  void save(const TrainingState& checkpoint) const;
  /// The newest that verifies byte for byte; why others were skipped is logged. None: nothing to resume from.
  std::optional<TrainingState> load_newest() const;
  /// Removes all checkpoints (the stage is finished, or is to start anew).
  void clear() const;

 private:
  std::filesystem::path folder_;
  std::int64_t keep_;
};

}  // namespace mmkd
