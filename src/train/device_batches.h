#pragma once
#include <c10/core/Stream.h>

#include <chrono>
#include <optional>

#include "mmkd/train/loader.h"

namespace mmkd {

/// The batches of a loader on a device. A GPU gets the next one by a stream of its own while it computes.
class DeviceBatches {
 public:
  /// `copies`: the stream, on a device other than the CPU. Memory belongs to streams, so one serves all epochs.
  DeviceBatches(BatchLoader loader, at::Device device, std::optional<c10::Stream> copies);
  /// Ready for what the calling thread's current stream does next; nothing at the end.
  std::optional<Batch> next();
  /// To be called when the work of a step has been given to the device: fetches the next batch meanwhile. Does nothing
  /// on the CPU, whose cores the step needs.
  void fetch_next();
  /// Seconds that the calling thread has waited for the loader.
  double waited() const { return waited_; }

 private:
  std::optional<Batch> from_loader();

  BatchLoader loader_;
  at::Device device_;
  std::optional<c10::Stream> copies_;
  std::optional<Batch> fetched_;
  double waited_ = 0;
};

}  // namespace mmkd
