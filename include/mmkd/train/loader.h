#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "mmkd/train/batch.h"

namespace mmkd {

struct LoaderOptions {
  std::int64_t num_workers = 4;  ///< threads; 0: batches are made when they are asked for, on the caller's thread
  std::int64_t prefetch = 0;     ///< batches made ahead at most; 0: two for each worker
};

/// Delivers the batches of a list of plans in its order, made ahead by worker threads; how many there are changes
/// nothing but the speed. To start in the middle of an epoch, leave the first plans out (epoch_plans). For one consumer
/// thread; may be destroyed at any time.
class BatchLoader {
 public:
  BatchLoader(BatchAssembler assembler, std::vector<BatchPlan> plans, LoaderOptions options);
  ~BatchLoader();
  BatchLoader(BatchLoader&&) noexcept;
  BatchLoader& operator=(BatchLoader&&) noexcept;

  /// The next batch, or nothing at the end. An exception of a worker is thrown here, in the place of the batch that it
  /// belongs to; the loader is at its end then.
  std::optional<Batch> next();
  /// Batches still to come.
  std::int64_t remaining() const;

 private:
  class Prefetcher;
  std::unique_ptr<Prefetcher> prefetcher_;
};

}  // namespace mmkd
