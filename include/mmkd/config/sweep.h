#pragma once
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "mmkd/config/load.h"

namespace mmkd {

/// One run of a sweep.
struct SweepRun {
  std::string name;                                           ///< "film-crd", "film-crd/seed-1"
  std::vector<std::pair<std::string, std::string>> settings;  ///< what varies: key -> value, in the order of the file
  LoadedConfig loaded;                                        ///< with its own log folder, artifacts shared by all
};

/// Many runs, from one file (docs/sweeps.md).
struct Sweep {
  std::filesystem::path file;
  std::string name;            ///< the file's name without extension, or its key `sweep`
  std::filesystem::path logs;  ///< holds the log folder of every run, and the sweep's own state
  std::vector<SweepRun> runs;  ///< at least one; names differ
};

/// Reads a sweep:
///   base: FILE                     the configuration all runs start from, or {NAME: FILE, …}: one set of runs for each
///   set: {key: value, …}           for all runs
///   grid: {key: [value, …], …}     every combination
///   list: [{key: value, …}, …]     crossed with the grid; `name` in an entry is a part of the run's name, no key
///   exclude: [{key: value, …}, …]  combinations that are left out
///   seeds: [0, 1]                  each run once for each
///   name: "{fusion.type}-{base}"   how runs are called; by default by everything that varies
///   sweep: NAME                    how the sweep is called
///   logs: FOLDER                   default: logs/<name of the sweep>
///   artifacts: FOLDER              default: `artifacts` beside the folder that holds `logs`
/// Files are relative to the sweep's folder, folders to the working folder. `overrides` ("a.b=c") hold for every run
/// and win over the file. Throws ConfigError with every problem of the file, or with those of the first configuration
/// that is wrong, which it names.
Sweep load_sweep(const std::filesystem::path& file, std::span<const std::string> overrides = {});

}  // namespace mmkd
