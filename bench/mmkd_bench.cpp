// mmkd-bench: one measurement of mmkd's own code, as one JSON line. bench/mmkd.py starts it with ranks and repeats.
#include <CLI/CLI.hpp>

#include <cstdio>
#include <cstdlib>

#include "bench/measurements.h"
#include "mmkd/base/error.h"
#include "mmkd/base/log.h"
#include "mmkd/comm/agree.h"
#include "mmkd/pipeline/cpu_memory.h"
#include "mmkd/pipeline/device.h"
#include "mmkd/version.h"

namespace {

using namespace mmkd;

std::filesystem::path folder_from(const char* variable) {
  const char* value = std::getenv(variable);
  return value == nullptr ? "" : std::filesystem::absolute(value);
}

bench::Json heading(const bench::Options& options, const MpiSession& mpi) {
  const int threads = options.what == "allreduce" ? 1
                      : options.threads > 0       ? options.threads
                                                  : std::max(1, bench::cores() / mpi.local_size());
  return {{"peer", "mmkd"},
          {"scale", options.scale},
          {"what", options.what},
          {"ranks", mpi.size()},
          {"device", options.device},
          {"dtype", options.dtype},
          {"batch", options.batch},
          {"threads", threads},
          {"workers", options.workers},
          {"weights", options.peers_root.empty() ? "own" : "peers"},
          {"mmkd", kVersion}};
}

int run(bench::Options options, const MpiSession& mpi) {
  log::configure(log::Level::warn, "");
  try {
    LoadedConfig loaded;
    on_all_ranks(mpi, [&] {
      options.data_root = folder_from("MMKD_MEDPIX_DIR");
      if (options.data_root.empty() && !bench::uses_demo_data(options))
        throw UsageError("MMKD_MEDPIX_DIR is not set: it names the folder of MedPix 2.0");
      options.peers_root = folder_from("MMKD_PEERS_DIR");
      options.source = std::filesystem::absolute(options.source);
      options.work = std::filesystem::absolute(options.work);
      loaded = bench::load_bench_config(options);
      (void)choose_device(loaded.config.device);  // before anything of torch
    });
    keep_tensor_memory();
    bench::Json line = heading(options, mpi);
    line.update(bench::measure(options, loaded, mpi));
    if (mpi.rank() == 0) std::printf("%s\n", line.dump().c_str());
  } catch (const CollectiveError& e) {
    if (mpi.rank() == 0) std::fprintf(stderr, "mmkd-bench: %s\n", e.what());
    return static_cast<int>(e.code());
  } catch (const std::exception& e) {
    std::fprintf(stderr, "mmkd-bench: rank %d: %s\n", mpi.rank(), e.what());
    if (mpi.size() > 1) mpi.abort(1);
    return 1;
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  mmkd::keep_few_descriptors();
  bench::Options options;
  options.work = "build/bench";
  options.source = MMKD_SOURCE_DIR;
  CLI::App app(
      "One measurement of mmkd, as one JSON line (docs/performance.md). Several ranks: mpirun -n 2 mmkd-bench …");
  app.add_option("--what", options.what, "What is measured")->required()->check(CLI::IsMember(bench::measurements()));
  app.add_option("--scale", options.scale)->check(CLI::IsMember({"small", "medium", "large"}))->capture_default_str();
  app.add_option("--dtype", options.dtype)->check(CLI::IsMember({"fp32", "bf16"}))->capture_default_str();
  app.add_option("--device", options.device)->check(CLI::IsMember({"cpu", "cuda"}))->capture_default_str();
  app.add_option("--batch", options.batch, "Global batch")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--threads", options.threads, "Of a rank; 0: cores / ranks")->check(CLI::NonNegativeNumber);
  app.add_flag("--no-verify{false}", options.verify, "Read records without their checksums");
  app.add_option("--workers", options.workers, "Loader threads")->check(CLI::NonNegativeNumber)->capture_default_str();
  app.add_option("--repeat", options.repeats.count, "Windows, or passes")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--min-seconds", options.repeats.min_seconds, "Of a window of steps")->capture_default_str();
  app.add_option("--seed", options.seed)->check(CLI::NonNegativeNumber)->capture_default_str();
  app.add_option("--seq", options.tokens, "Tokens of a text in synth")
      ->check(CLI::Range(2, 256))
      ->capture_default_str();
  app.add_option("--set", options.settings, "Another key of the configuration (repeatable)")->expected(1)->take_all();
  app.add_option("--source", options.source, "Checkout of mmkd, for programs that were moved")->capture_default_str();
  app.add_option("--work", options.work, "Folder of packed data and scratch")->capture_default_str();
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : static_cast<int>(ExitCode::usage);
  }
  const MpiSession mpi;
  return run(options, mpi);
}
