#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "mmkd/config/slurm_profile.h"
#include "mmkd/sweep/graph.h"
#include "mmkd/sweep/state.h"

namespace mmkd {

/// One call of sbatch: a node, or an array of alike nodes.
struct SlurmSubmission {
  std::vector<std::size_t> nodes;
  std::vector<std::int64_t> indices;      ///< of the array's tasks, one for each node; empty: no array
  std::vector<std::string> dependencies;  ///< "afterok:12", "aftercorr:13"
};

/// A job that a node still waits for: "12", or task 3 of the array 13.
struct SlurmJobRef {
  std::string job;
  std::int64_t index = -1;  ///< -1: no array
  bool operator==(const SlurmJobRef&) const = default;
};

/// Divides nodes of one stage, which do not depend on one another, into as few submissions as their dependencies allow.
/// `waits_for[i]`: the jobs that nodes[i] waits for, those aside that others of them wait for. Nodes that wait for the
/// same jobs become an array; so do nodes each of which waits for another task of one array, by `aftercorr`.
std::vector<SlurmSubmission> group_nodes(const std::vector<std::size_t>& nodes,
                                         const std::vector<std::vector<SlurmJobRef>>& waits_for);

struct SubmitOptions {
  SlurmProfile profile;
  std::filesystem::path programs;  ///< folder of mmkd, mmkd-run, mmkd-pack
  std::filesystem::path script;    ///< slurm/stage.sbatch
};

/// Submits what is neither done nor in SLURM's hands already; a line for each job in the result. Throws UsageError
/// without sbatch, Error for what sbatch refuses (jobs that were submitted by then stay).
std::vector<std::string> submit_sweep(const SweepGraph& graph, const SubmitOptions& options);

/// The jobs of the sweep's nodes with what squeue, and sacct where it works, say of them. Empty without a submission.
SlurmJobs slurm_jobs(const SweepGraph& graph);

/// Cancels the sweep's jobs; the number of jobs that were waiting or running.
std::size_t cancel_jobs(const SweepGraph& graph);

}  // namespace mmkd
