#pragma once
#include <chrono>
#include <memory>
#include <string>

#include "mmkd/comm/mpi_session.h"

namespace mmkd {

struct LivenessOptions {
  /// A rank that sends no sign of life for so long is taken for dead or stopped.
  std::chrono::milliseconds dead_after = std::chrono::seconds(60);
  /// A rank on which nothing happens for so long, though it waits for no other, is taken for stuck; so are all, if
  /// every one waits. 0: never.
  std::chrono::milliseconds stalled_after = std::chrono::minutes(30);
  std::string network_interface;  ///< empty: the first that is up and leads to other hosts
};

/// Watches over the ranks beside MPI, whose collectives wait for ever for a rank that does not come: every rank holds a
/// TCP connection to rank 0 and sends over it, from a thread of its own, what it is doing (Activity). Who finds that a
/// rank has died, was stopped or hangs logs which one, its host, its phase, step and last collective, tells the others,
/// and ends this process and the job with ExitCode::peer_lost. The connections belong to the ranks of this job alone: a
/// secret goes round by MPI first. Time that this process itself was stopped for does not count against the others.
class Liveness {
 public:
  /// Collective. In a world of one nothing is watched. Throws CollectiveError if the connections cannot be made.
  Liveness(const MpiSession& mpi, const LivenessOptions& options);
  /// Says goodbye; whoever has said so is watched no more.
  ~Liveness();
  Liveness(const Liveness&) = delete;
  Liveness& operator=(const Liveness&) = delete;

 private:
  class Monitor;
  std::unique_ptr<Monitor> monitor_;
};

}  // namespace mmkd
