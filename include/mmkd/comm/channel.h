#pragma once
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "mmkd/comm/mpi_session.h"
#include "mmkd/comm/ordered_reduce.h"

namespace mmkd {

struct ChannelOptions {
  /// How ranks exchange data. `automatic`: shared memory if all ranks run on one host, else MPI messages.
  enum class Transport { automatic, shared_memory, mpi };
  Transport transport = Transport::automatic;
  /// The longest that a collective waits for the other ranks before it throws.
  std::chrono::milliseconds timeout = std::chrono::minutes(30);
  /// The piece, per rank, in which shared memory works through a message; the same on all ranks, 64 bytes at least.
  std::size_t shared_slot_bytes = std::size_t{1} << 20;
};

/// Collectives between all ranks on host memory, on a communicator of their own. Reductions combine the ranks' elements
/// in rank order (ordered_reduce.h), so equal values give equal bits in whatever layout or transport they travel.
///
/// One collective at a time: the functions are for one thread (set_timeout and cancel for any). All ranks call the same
/// ones in the same order. They throw Error if the ranks disagree on operation, type or size (on every rank), if a peer
/// fails or does not come in time, or on an MPI error; the channel is unusable from then on and every further call
/// throws at once. Waiting ranks sleep, they do not spin.
class Channel {
 public:
  /// Collective. The session must outlive the channel. Where `automatic` would use shared memory but it is not to be
  /// had, MPI is used and rank 0 logs why; `shared_memory` throws Error then.
  explicit Channel(const MpiSession& session, const ChannelOptions& options = {});
  /// Collective unless the channel has failed.
  ~Channel();
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;

  /// data: [count], in and out.
  void all_reduce(void* data, std::size_t count, ElementType type, Reduction reduction);
  /// input: [size, count]; output: [count], the reduction of every rank's row number `rank`. They must not overlap.
  void reduce_scatter(const void* input, void* output, std::size_t count, ElementType type, Reduction reduction);
  /// input: [bytes]; output: [size, bytes] in rank order. They must not overlap, except that `input` may be this rank's
  /// own row of `output`.
  void all_gather(const void* input, void* output, std::size_t bytes);
  /// data: [bytes], what `root` has, everywhere.
  void broadcast(void* data, std::size_t bytes, int root);
  void barrier();

  int rank() const { return rank_; }
  int size() const { return size_; }
  /// "shared memory", "MPI" or "one rank": for logs.
  std::string_view transport() const;

  /// Any thread; holds from the next collective on.
  void set_timeout(std::chrono::milliseconds timeout) { timeout_ms_ = timeout.count(); }
  /// Any thread: the collective in progress, and all later ones, throw. For leaving after an error.
  void cancel() { cancelled_ = true; }

 private:
  template <class Body>
  void run(struct Operation operation, Body&& body);

  int rank_, size_;
  std::unique_ptr<class Transport> transport_;
  std::atomic<std::int64_t> timeout_ms_;
  std::atomic<bool> cancelled_{false};
  std::uint32_t collectives_ = 0;
  std::optional<std::string> failure_;
};

}  // namespace mmkd
