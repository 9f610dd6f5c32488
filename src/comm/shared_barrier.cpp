#include "shared_barrier.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstring>

#include "mmkd/base/error.h"

namespace mmkd {
namespace {

static_assert(std::atomic<std::uint32_t>::is_always_lock_free, "the barrier is shared by processes");

long futex(std::atomic<std::uint32_t>& word, int operation, std::uint32_t value, const timespec* timeout) {
  return syscall(SYS_futex, reinterpret_cast<std::uint32_t*>(&word), operation, value, timeout, nullptr, 0);
}

}  // namespace

void SharedBarrier::arrive_and_wait(int rank, int ranks, const Patience& patience) {
  constexpr std::chrono::microseconds kSpin{20};
  constexpr timespec kLongestSleep{.tv_sec = 0, .tv_nsec = 50'000'000};  // between looks at patience

  const std::uint32_t generation = generation_.load();
  reached_[rank].store(generation + 1, std::memory_order_relaxed);
  if (arrived_.fetch_add(1) + 1 == static_cast<std::uint32_t>(ranks)) {
    arrived_.store(0);
    generation_.store(generation + 1);
    if (sleepers_.load() > 0) futex(generation_, FUTEX_WAKE, INT_MAX, nullptr);
    return;
  }
  const auto spin_until = Patience::Clock::now() + kSpin;
  while (Patience::Clock::now() < spin_until)
    if (generation_.load() != generation) return;
  for (;;) {
    sleepers_.fetch_add(1);
    futex(generation_, FUTEX_WAIT, generation, &kLongestSleep);
    sleepers_.fetch_sub(1);
    if (generation_.load() != generation) return;
    if (failed_.load() != 0) rethrow_failure();
    if (patience.exhausted()) patience.give_up(missing(generation, ranks));
  }
}

void SharedBarrier::fail(int rank, std::string_view why) noexcept {
  const auto me = static_cast<std::uint32_t>(rank) + 1;
  std::uint32_t nobody = 0;
  if (!failing_.compare_exchange_strong(nobody, me)) return;
  const std::size_t length = std::min(why.size(), sizeof reason_ - 1);  // it ends in a zero from the start
  std::memcpy(reason_, why.data(), length);
  failed_.store(me);
  futex(generation_, FUTEX_WAKE, INT_MAX, nullptr);
}

void SharedBarrier::rethrow_failure() const { throw Error("rank {} failed: {}", failed_.load() - 1, reason_); }

std::string SharedBarrier::missing(std::uint32_t generation, int ranks) const {
  std::string names;
  for (int rank = 0; rank < ranks; ++rank) {
    if (reached_[rank].load(std::memory_order_relaxed) == generation + 1) continue;
    names += fmt::format("{}{}", names.empty() ? "rank " : ", ", rank);
  }
  return names.empty() ? "the other ranks" : names;
}

}  // namespace mmkd
