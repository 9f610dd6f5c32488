#pragma once
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "mmkd/comm/ordered_reduce.h"

namespace mmkd {

/// What a rank is about to do. Ranks compare theirs before they touch data, so that a mismatch is an error rather than
/// a hang or garbage. Crosses process borders as bytes: no padding, no pointers.
struct Operation {
  enum class Kind : std::uint32_t { all_reduce = 1, reduce_scatter, all_gather, broadcast, barrier };
  Kind kind = Kind::barrier;
  std::uint32_t number = 0;     ///< counts the channel's collectives
  std::uint64_t count = 0;      ///< elements, or bytes where there is no type
  std::int32_t type = -1;       ///< ElementType
  std::int32_t reduction = -1;  ///< Reduction
  std::int64_t root = -1;
  bool operator==(const Operation&) const = default;
};
static_assert(sizeof(Operation) == 32);

std::string describe(const Operation& operation);

/// Throws Error naming both sides if `peer` is about to do something else.
void require_same(const Operation& mine, const Operation& theirs, int peer);

/// Bounds every wait of one collective.
class Patience {
 public:
  using Clock = std::chrono::steady_clock;
  Patience(std::chrono::milliseconds timeout, const std::atomic<bool>& cancelled)
      : timeout_(timeout), deadline_(Clock::now() + timeout), cancelled_(&cancelled) {}
  bool exhausted() const { return *cancelled_ || Clock::now() >= deadline_; }
  /// Throws the Error that fits exhausted(): cancelled, or "… s passed while waiting for <whom>".
  [[noreturn]] void give_up(std::string_view whom) const;

 private:
  std::chrono::milliseconds timeout_;
  Clock::time_point deadline_;
  const std::atomic<bool>* cancelled_;
};

/// One collective as a transport sees it.
struct Call {
  Operation operation;
  Patience patience;
};

/// How the bytes of a channel travel. The channel has checked the arguments, and calls nothing more after a throw.
class Transport {
 public:
  virtual ~Transport() = default;
  virtual std::string_view name() const = 0;
  virtual void all_reduce(const Call& call, std::byte* data, std::size_t count, ElementType type,
                          Reduction reduction) = 0;
  virtual void reduce_scatter(const Call& call, const std::byte* input, std::byte* output, std::size_t count,
                              ElementType type, Reduction reduction) = 0;
  virtual void all_gather(const Call& call, const std::byte* input, std::byte* output, std::size_t bytes) = 0;
  virtual void broadcast(const Call& call, std::byte* data, std::size_t bytes, int root) = 0;
  virtual void barrier(const Call& call) = 0;
  /// This rank gave up in the middle of a collective: tells the others if there is a way, and frees nothing that a
  /// peer or a pending request may still use.
  virtual void abandon(std::string_view why) noexcept = 0;
};

}  // namespace mmkd
