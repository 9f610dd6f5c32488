#pragma once
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace mmkd {

/// What a job of SLURM asks for.
struct SlurmResources {
  std::int64_t nodes = 1;
  std::int64_t ranks_per_node = 1;  ///< with GPUs: one rank for each
  std::int64_t gpus_per_node = 0;   ///< 0: none is asked for
  std::int64_t cpus_per_rank = 1;
  std::string time = "24:00:00", memory, partition, account, qos, constraint;  ///< empty: the cluster's default
  std::vector<std::string> extra;  ///< further options of sbatch, as they are
  bool operator==(const SlurmResources&) const = default;
};

/// How the stages of a sweep become jobs (slurm/profile.yaml, docs/slurm.md).
struct SlurmProfile {
  SlurmResources resources;                      ///< of stages that `stages` does not name
  std::map<std::string, SlurmResources> stages;  ///< "pack", "teacher", "cache", "joint", "student", "test"
  std::string launcher = "mpirun";               ///< or "srun"
  std::string setup;                             ///< shell lines before the programs start, e.g. `module load openmpi`
  std::map<std::string, std::string> environment;
  std::int64_t max_requeues = 5;         ///< of a job that was interrupted or lost a rank
  std::int64_t signal_before_end = 180;  ///< seconds before the time limit at which the checkpoint is written
  std::filesystem::path script;          ///< instead of slurm/stage.sbatch; empty: that one

  const SlurmResources& of(const std::string& stage) const;
};

/// Throws ConfigError with everything that is wrong.
SlurmProfile load_slurm_profile(const std::filesystem::path& file);

}  // namespace mmkd
