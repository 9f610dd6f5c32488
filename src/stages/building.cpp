#include "mmkd/stages/building.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <csignal>

#include "mmkd/base/error.h"
#include "mmkd/base/log.h"
#include "mmkd/base/signals.h"
#include "mmkd/comm/activity.h"
#include "mmkd/comm/agree.h"

namespace mmkd {
namespace {

using Clock = std::chrono::steady_clock;

/// Tells now and then for whom a stage waits.
class Waiting {
 public:
  explicit Waiting(std::string stage) : stage_(std::move(stage)) {}

  void operator()(const LockOwner& owner) {
    if (stop_requested()) throw Interrupted("stopped by a signal while another process builds the {} stage", stage_);
    activity().tick(++looks_);  // waiting is no hanging
    constexpr auto kBetween = std::chrono::minutes(1);
    if (told_ && Clock::now() - *told_ < kBetween) return;
    told_ = Clock::now();
    log::info("{}: process {} on {} builds this stage since {}{}{}; waiting", stage_, owner.pid, owner.host,
              owner.since, owner.progress.empty() ? "" : ", ", owner.progress);
  }

 private:
  std::string stage_;
  std::int64_t looks_ = 0;
  std::optional<Clock::time_point> told_;
};

LockOptions lock_options(const std::string& stage, double dead_after) {
  LockOptions options;
  const auto milliseconds = [](double seconds) { return std::chrono::milliseconds(std::llround(seconds * 1e3)); };
  constexpr double kBeatsBeforeDeath = 8;
  options.stale_after = milliseconds(dead_after);
  options.beat = std::min(options.beat, milliseconds(dead_after / kBeatsBeforeDeath));
  options.poll = std::min(options.poll, options.beat);
  options.progress = [] { return activity().state().told; };
  options.lost = [stage] {
    log::error("{}: another process has taken this stage over, since this one gave no sign of life; stopping", stage);
    request_stop(SIGUSR2);
  };
  options.waiting = [waiting = std::make_shared<Waiting>(stage)](const LockOwner& owner) { (*waiting)(owner); };
  return options;
}

}  // namespace

std::unique_ptr<StageLock> lock_stage(const MpiSession& mpi, const StageStore& store, const StageInputs& inputs,
                                      double dead_after) {
  std::unique_ptr<StageLock> lock;
  on_rank_zero(mpi, [&] {
    activity().enter_phase("waiting for the " + inputs.stage + " stage");
    lock = StageLock::acquire(store.folder(inputs), lock_options(inputs.stage, dead_after));
  });
  return lock;
}

}  // namespace mmkd
