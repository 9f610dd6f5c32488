#pragma once
#include <ATen/ATen.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <thread>
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
  /// The newest step whose checkpoint lies there, unverified; -1: none.
  std::int64_t newest_step() const;
  const std::filesystem::path& folder() const { return folder_; }
  std::int64_t keep() const { return keep_; }
  /// Removes all checkpoints (the stage is finished, or is to start anew).
  void clear() const;

 private:
  std::filesystem::path folder_;
  std::int64_t keep_;
};

/// Writes checkpoints on a thread of its own, one at a time, so that training waits for the copy of its tensors only. A
/// checkpoint that cannot be written (a full disk) is a warning: training goes on, older ones stay, and the next
/// attempt may succeed.
class CheckpointWriter {
 public:
  /// The store must outlive the writer.
  explicit CheckpointWriter(const CheckpointStore& store) : store_(store) {}
  ~CheckpointWriter();
  CheckpointWriter(const CheckpointWriter&) = delete;
  CheckpointWriter& operator=(const CheckpointWriter&) = delete;

  /// Starts to write; waits for the one before. The tensors must not change any more.
  void write(TrainingState checkpoint);
  /// Waits until nothing is being written. Why the last one failed; empty: it is on disk.
  std::string finish();

 private:
  const CheckpointStore& store_;
  std::thread thread_;
  std::string failure_;
};

}  // namespace mmkd
