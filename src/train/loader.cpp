#include "mmkd/train/loader.h"

#include <sched.h>

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>

#include "mmkd/base/error.h"

namespace mmkd {
namespace {

/// Batches are made ahead of time: who is woken to make one waits for a core that is free rather than take that of the
/// step. A wish, as far as the system grants it.
void be_in_no_hurry() {
  const sched_param none{};
  sched_setscheduler(0, SCHED_BATCH, &none);
}

}  // namespace

// A ring of slots: plan i is delivered from slot i % slots. A worker claims the next plan as soon as its slot is free,
// so at most `slots` batches exist at once, and whichever worker is done first, delivery follows the plans.
class BatchLoader::Prefetcher {
 public:
  Prefetcher(BatchAssembler assembler, std::vector<BatchPlan> plans, const LoaderOptions& options)
      : assembler_(std::move(assembler)), plans_(std::move(plans)) {
    if (options.num_workers < 0 || options.prefetch < 0) {
      throw Error("batch loader: {} workers with {} batches ahead; neither may be negative", options.num_workers,
                  options.prefetch);
    }
    const auto workers = std::min(static_cast<std::size_t>(options.num_workers), plans_.size());
    const auto ahead = options.prefetch > 0 ? static_cast<std::size_t>(options.prefetch) : 2 * workers;
    slots_.resize(std::min(ahead, plans_.size()));
    workers_.reserve(workers);
    try {
      for (std::size_t i = 0; i < workers; ++i) workers_.emplace_back([this] { work(); });
    } catch (...) {  // the machine gives no more threads: the destructor won't run
      stop();
      throw;
    }
  }

  ~Prefetcher() { stop(); }

  Prefetcher(const Prefetcher&) = delete;
  Prefetcher& operator=(const Prefetcher&) = delete;

  std::optional<Batch> next() {
    if (delivered_ == plans_.size()) return std::nullopt;
    if (workers_.empty()) return make_now();
    std::unique_lock lock(mutex_);
    auto& slot = slots_[delivered_ % slots_.size()];
    batch_ready_.wait(lock, [&] { return slot.batch || slot.failure; });
    if (slot.failure) {
      const auto failure = std::exchange(slot.failure, nullptr);
      end();
      std::rethrow_exception(failure);
    }
    auto batch = std::exchange(slot.batch, std::nullopt);
    ++delivered_;
    lock.unlock();
    slot_free_.notify_one();
    return batch;
  }

  std::int64_t remaining() const { return static_cast<std::int64_t>(plans_.size() - delivered_); }

 private:
  struct Slot {
    std::optional<Batch> batch;
    std::exception_ptr failure;
  };

  std::optional<Batch> make_now() {
    try {
      auto batch = assembler_.assemble(plans_[delivered_]);
      ++delivered_;
      return batch;
    } catch (...) {
      end();
      throw;
    }
  }

  /// Caller holds the lock, or there are no workers.
  void end() {
    stop_ = true;
    delivered_ = plans_.size();
    slot_free_.notify_all();
  }

  void stop() {
    {
      const std::scoped_lock lock(mutex_);
      stop_ = true;
    }
    slot_free_.notify_all();
    for (auto& worker : workers_) worker.join();
  }

  void work() {
    be_in_no_hurry();
    std::unique_lock lock(mutex_);
    for (;;) {
      slot_free_.wait(lock,
                      [&] { return stop_ || claimed_ == plans_.size() || claimed_ < delivered_ + slots_.size(); });
      if (stop_ || claimed_ == plans_.size()) return;
      const std::size_t mine = claimed_++;
      lock.unlock();
      Slot made;
      try {
        made.batch = assembler_.assemble(plans_[mine]);
      } catch (...) {
        made.failure = std::current_exception();
      }
      lock.lock();
      slots_[mine % slots_.size()] = std::move(made);
      batch_ready_.notify_one();
    }
  }

  const BatchAssembler assembler_;
  const std::vector<BatchPlan> plans_;
  std::mutex mutex_;  // guards all below but workers_; delivered_ is written by the consumer only
  std::condition_variable slot_free_, batch_ready_;
  std::vector<Slot> slots_;
  std::size_t claimed_ = 0;    // plans that a worker has taken
  std::size_t delivered_ = 0;  // plans that the consumer has got
  bool stop_ = false;
  std::vector<std::thread> workers_;
};

BatchLoader::BatchLoader(BatchAssembler assembler, std::vector<BatchPlan> plans, LoaderOptions options)
    : prefetcher_(std::make_unique<Prefetcher>(std::move(assembler), std::move(plans), options)) {}
BatchLoader::~BatchLoader() = default;
BatchLoader::BatchLoader(BatchLoader&&) noexcept = default;
BatchLoader& BatchLoader::operator=(BatchLoader&&) noexcept = default;

std::optional<Batch> BatchLoader::next() { return prefetcher_->next(); }
std::int64_t BatchLoader::remaining() const { return prefetcher_->remaining(); }

}  // namespace mmkd
