#pragma once
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "bench/windows.h"
#include "mmkd/config/load.h"
#include "mmkd/dist/world.h"
#include "mmkd/eval/evaluate.h"
#include "mmkd/models/multimodal_model.h"
#include "mmkd/pipeline/job.h"
#include "mmkd/train/trainer.h"

// The job of one measurement, put together as mmkd-ddp does it.
namespace mmkd::bench {

struct Options {
  std::string what, scale = "small", dtype = "fp32", device = "cpu";
  std::int64_t batch = 16;   ///< global
  int threads = 0;           ///< of a rank; 0: the cores divided by the ranks, as mmkd-ddp does
  std::int64_t workers = 2;  ///< loader threads
  bool verify = true;        ///< records by their checksums
  Repeats repeats;
  std::int64_t seed = 0;
  std::int64_t tokens = 32;           ///< real tokens of each text in synthetic data
  std::vector<std::string> settings;  ///< further keys of the configuration, KEY=VALUE
  std::filesystem::path source;       ///< of mmkd: bench/<scale>.yaml and the vocabulary are there
  std::filesystem::path work;         ///< packed data and scratch
  std::filesystem::path data_root;    ///< MedPix 2.0; unused where uses_demo_data()
  std::filesystem::path peers_root;   ///< whose weights/ are the initial weights; empty: mmkd's own initialisation
};

/// The large scale is for made-up pictures and texts alone: the demo data set gives it no more than tasks.
inline bool uses_demo_data(const Options& options) { return options.scale == "large"; }

/// The configuration of bench/<scale>.yaml with what the options say.
LoadedConfig load_bench_config(const Options& options);

class Setup {
 public:
  /// Collective. Packs the data unless that is done; with `pack_now` false it must be done.
  Setup(const Options& options, const LoadedConfig& loaded, const MpiSession& mpi, bool pack_now);
  ~Setup();
  Setup(const Setup&) = delete;
  Setup& operator=(const Setup&) = delete;

  const Options& options() const { return options_; }
  const World& world() const { return *world_; }
  const MpiSession& mpi() const { return world_->mpi(); }
  Job& job() { return *job_; }
  /// A folder for this run alone, on every rank the same; removed at the end.
  const std::filesystem::path& scratch() const { return scratch_; }

  const ModelSource& source(Role role) const { return role == Role::teacher ? job_->teachers.front() : *job_->student; }
  /// How the product trains the model, for one epoch.
  TrainerSpec one_epoch(Role role) const;

 private:
  Options options_;
  const LoadedConfig& loaded_;
  RunOptions run_;
  std::unique_ptr<World> world_;
  std::filesystem::path scratch_;
  std::optional<Job> job_;
};

}  // namespace mmkd::bench
