#pragma once
#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>

#include "transport.h"

namespace mmkd {

/// Barrier for processes, in shared memory that started as zeros. Waiters poll for some microseconds, then sleep in the
/// kernel until the last one arrives.
class SharedBarrier {
 public:
  static constexpr int kMaxRanks = 1024;
  /// Throws Error if a rank has failed, or `patience` is exhausted (naming the ranks that have not come).
  void arrive_and_wait(int rank, int ranks, const Patience& patience);
  /// Wakes everyone; whoever waits now or later throws with this reason. The first to fail is the one who is quoted.
  void fail(int rank, std::string_view why) noexcept;

 private:
  [[noreturn]] void rethrow_failure() const;
  std::string missing(std::uint32_t generation, int ranks) const;
  std::atomic<std::uint32_t> generation_, arrived_, sleepers_;
  std::atomic<std::uint32_t> reached_[kMaxRanks];  // the generation that each rank waits for: for messages only
  std::atomic<std::uint32_t> failing_, failed_;    // rank + 1: who may write the reason, and whose reason is there
  char reason_[512];
};

}  // namespace mmkd
