#pragma once
#include <cstdio>

#include "mmkd/sweep/execute.h"
#include "mmkd/sweep/graph.h"

namespace mmkd {

struct LocalOptions {
  Launch launch;
  int jobs = 1;     ///< nodes at a time
  int cores = 0;    ///< that nodes which may run at the same time share; 0: nothing is said to them
  int retries = 1;  ///< of a node whose process was lost
  std::FILE* out = stdout;
};

struct SweepOutcome {
  std::size_t built = 0, reused = 0, failed = 0, blocked = 0;
  bool interrupted = false;
};

/// Builds what is missing of a sweep on this machine, each node once its parents are done; a node that fails holds up
/// only what needs it. After a stop signal running nodes write their checkpoints, and the same call goes on later.
/// Throws UsageError where another process on this host runs the same sweep.
SweepOutcome run_sweep(const SweepGraph& graph, const LocalOptions& options);

/// How many threads each rank of a node gets: the cores go to as many nodes as `jobs` allows of those that are as far
/// from the beginning of the graph. It does not depend on what happens to run, so that a node that is tried again
/// computes the same bits.
int threads_of_node(const SweepGraph& graph, std::size_t node, const LocalOptions& options);

/// Asks the process that runs the sweep on this host to stop; false if there is none.
bool stop_local_runner(const Sweep& sweep);

}  // namespace mmkd
