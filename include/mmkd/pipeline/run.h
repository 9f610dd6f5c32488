#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "mmkd/comm/mpi_session.h"
#include "mmkd/config/load.h"

// The whole job: teacher -> teacher cache -> student -> test, over artifacts that are content-addressed.
namespace mmkd {

/// What to do about unfinished stages.
enum class Resume {
  automatic,  ///< go on from the newest checkpoint, where there is one for this configuration
  never,      ///< start them anew
  required,   ///< as automatic, but only for the configuration of the interrupted run in the log folder
};

struct RunOptions {
  bool dry_run = false;  ///< check everything and print the plan; train nothing
  Resume resume = Resume::automatic;
  std::string until;  ///< the last stage to build ("teacher", "cache", "student", …); empty: all of them
};

/// Collective: every rank must call. Runs what is missing of the job and writes the artifacts into logging.log_dir.
/// Throws the same Error on every rank for what can be told beforehand; Interrupted after a stop signal, with a
/// checkpoint on disk.
void run_job(const LoadedConfig& loaded, const MpiSession& mpi, const RunOptions& options);

}  // namespace mmkd
