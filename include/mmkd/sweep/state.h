#pragma once
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mmkd/base/process.h"
#include "mmkd/sweep/graph.h"

// What a sweep keeps beside its runs' log folders: `<logs>/.sweep/`, with a configuration for each run, and a record
// and a log for each node (docs/sweeps.md).
namespace mmkd {

struct SweepFolder {
  explicit SweepFolder(const Sweep& sweep) : root(sweep.logs / ".sweep") {}
  explicit SweepFolder(std::filesystem::path folder) : root(std::move(folder)) {}
  std::filesystem::path root;
  std::filesystem::path config(const std::string& run) const { return root / "runs" / (run + ".yaml"); }
  std::filesystem::path record(const std::string& node) const { return root / "nodes" / (node + ".json"); }
  std::filesystem::path task(const std::string& node) const { return root / "nodes" / (node + ".task.json"); }
  std::filesystem::path log(const std::string& node) const { return root / "nodes" / (node + ".log"); }
  std::filesystem::path runner() const { return root / "runner.json"; }
  std::filesystem::path jobs() const { return root / "slurm" / "jobs.json"; }
};

/// How a node is built: what is left of the plan for who builds it, maybe on another host and much later.
struct NodeTask {
  std::string id, stage;
  std::string until;              ///< of mmkd-ddp; empty: the whole run
  std::filesystem::path config;   ///< the run's
  std::filesystem::path log_dir;  ///< of this node: that of the run, or a folder of the sweep for what runs share
};

/// Writes the configuration of every run and the task of every node.
void write_tasks(const SweepGraph& graph);
/// Throws Error where it is missing or damaged.
NodeTask read_task(const SweepFolder& folder, const std::string& node);

/// What is known of the last try to build a node.
struct NodeRecord {
  std::string state;  ///< "running", "done", "failed", "interrupted"
  int exit_code = 0;  ///< of the last try that ended
  std::int64_t attempts = 0;
  double seconds = 0;                      ///< of the last try that ended
  std::string error;                       ///< one line
  std::optional<ProcessIdentity> process;  ///< who runs it
};

/// An empty record where there is none, or one that cannot be read.
NodeRecord read_record(const SweepFolder& folder, const std::string& node);
void write_record(const SweepFolder& folder, const std::string& node, const NodeRecord& record);

/// The line of a node's log that says best why it failed: the last that one of the programs itself wrote.
std::string error_line(const std::filesystem::path& log);

enum class NodeState {
  done,         ///< its artifact, or its run's results, are there
  running,      ///< a process builds it now
  queued,       ///< SLURM has it
  interrupted,  ///< stopped with a checkpoint: goes on when the sweep does
  failed,
  blocked,  ///< needs one that failed
  waiting,  ///< can be built, or will be once its parents are done
};
std::string_view name(NodeState state);

struct NodeStatus {
  NodeState state = NodeState::waiting;
  std::string detail;  ///< progress, error, or what it waits for; one line
  double seconds = 0;  ///< that it took, where known
};

/// A node's job in SLURM.
struct SlurmJob {
  std::string id;      ///< "123", "123_4"
  std::string state;   ///< "PENDING", "RUNNING", "TIMEOUT", …; empty: SLURM knows nothing of it any more
  std::string reason;  ///< why it waits
};
/// Does SLURM still have the job, waiting or running?
bool is_in_queue(const SlurmJob& job);
using SlurmJobs = std::map<std::string, SlurmJob>;  ///< by node

/// Is the node's artifact there (sizes and parents are looked at, not every byte), or for the end of a run, are its
/// results of just this plan there?
bool is_done(const SweepGraph& graph, const SweepNode& node);

/// Of every node: the artifacts say what is done; locks, records and SLURM say the rest.
std::vector<NodeStatus> sweep_status(const SweepGraph& graph, const SlurmJobs& jobs = {});

}  // namespace mmkd
