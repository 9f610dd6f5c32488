// mmkd-ddp: trains the teacher, computes its outputs once, distils the student and tests it, on the ranks of mpirun.
#include <CLI/CLI.hpp>

#include <cstdio>
#include <map>
#include <string>
#include <vector>

#include "mmkd/base/error.h"
#include "mmkd/base/log.h"
#include "mmkd/base/signals.h"
#include "mmkd/comm/agree.h"
#include "mmkd/comm/mpi_session.h"
#include "mmkd/command_line/documents.h"
#include "mmkd/config/load.h"
#include "mmkd/pipeline/cpu_memory.h"
#include "mmkd/pipeline/run.h"
#include "mmkd/version.h"

namespace {

const std::map<std::string, mmkd::Resume> kResume{
    {"auto", mmkd::Resume::automatic}, {"never", mmkd::Resume::never}, {"must", mmkd::Resume::required}};

struct Arguments {
  std::string config;
  std::vector<std::string> overrides;
  std::string resume = "auto", until;
  bool dry_run = false, verbose = false;
};

int run(const Arguments& arguments, const mmkd::MpiSession& mpi) {
  using namespace mmkd;
  log::configure(mpi.rank() != 0     ? log::Level::error
                 : arguments.verbose ? log::Level::debug
                                     : log::Level::info,
                 mpi.size() > 1 ? fmt::format("rank {}", mpi.rank()) : "");
  install_stop_handlers();
  // Every rank reads the configuration; what is wrong with it is wrong on every rank, and rank 0 says it.
  LoadedConfig loaded;
  try {
    loaded = load_config(arguments.config, arguments.overrides);
  } catch (const UsageError& e) {
    if (mpi.rank() == 0) std::fprintf(stderr, "mmkd-ddp: %s\n", e.what());
    return static_cast<int>(e.code());
  }
  try {
    run_job(loaded, mpi,
            {.dry_run = arguments.dry_run, .resume = kResume.at(arguments.resume), .until = arguments.until});
  } catch (const CollectiveError& e) {
    if (mpi.rank() == 0) std::fprintf(stderr, "mmkd-ddp: %s\n", e.what());
    log::flush();
    return static_cast<int>(e.code());
  } catch (const std::exception& e) {
    // This rank alone failed: its peers wait in a collective and must be ended.
    std::fprintf(stderr, "mmkd-ddp: rank %d on %s: %s\n", mpi.rank(), mpi.host().c_str(), e.what());
    log::flush();
    if (mpi.size() > 1) mpi.abort(1);
    return 1;
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  mmkd::keep_few_descriptors();
  Arguments arguments;
  CLI::App app(
      "Trains a teacher, computes its outputs once, distils a student and tests it.\n"
      "Start it with mpirun for several ranks:  mpirun -n 2 mmkd-ddp CONFIG");
  app.set_version_flag("--version", std::string("mmkd ") + mmkd::kVersion);
  app.add_option("config", arguments.config, "YAML configuration (docs/configuration.md)")->required();
  app.add_option("--set", arguments.overrides, "Override a key: --set training.seed=1 (repeatable)")
      ->expected(1)
      ->take_all();
  app.add_option(
         "--resume", arguments.resume,
         "auto: go on from the newest checkpoint; never: start unfinished stages anew; must: go on, or say what "
         "differs from the interrupted run in the log folder")
      ->check(CLI::IsMember(kResume))
      ->capture_default_str();
  app.add_option("--until", arguments.until,
                 "Stop after this stage: teacher, cache, student, …; what follows is left to another run");
  app.add_flag("--dry-run", arguments.dry_run, "Check config, data, weights and keys, print the plan, train nothing");
  app.add_flag("-v,--verbose", arguments.verbose, "Log details");
  mmkd::add_document_options(app, "mmkd-ddp");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : static_cast<int>(mmkd::ExitCode::usage);
  }
  const mmkd::MpiSession mpi;
  return run(arguments, mpi);
}
