#pragma once
#include <chrono>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "mmkd/base/child_process.h"
#include "mmkd/sweep/state.h"

namespace mmkd {

/// How programs are started.
struct Launch {
  std::filesystem::path programs;   ///< folder of mmkd-pack and mmkd-run
  int ranks = 0;                    ///< 0: as many as there are GPUs, or one
  std::string launcher = "mpirun";  ///< or "srun", inside a job of SLURM
  std::map<std::string, std::string> environment;
};

std::vector<std::string> task_command(const NodeTask& task, const Launch& launch);

/// A node that is being built by a process of its own; its record is kept up to date.
class RunningTask {
 public:
  RunningTask(SweepFolder folder, NodeTask task, const Launch& launch);
  /// The record once it has ended: "done", "interrupted" or "failed".
  std::optional<NodeRecord> poll();
  /// Asks it to write a checkpoint and end; asked again two seconds later, it ends at once.
  void stop();

 private:
  SweepFolder folder_;
  NodeTask task_;
  NodeRecord record_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  std::unique_ptr<ChildProcess> child_;
};

/// May the same command succeed when it is tried again? A lost rank, a signal; not a wrong configuration.
bool is_worth_retrying(int exit_code);

}  // namespace mmkd
