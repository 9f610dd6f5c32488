#pragma once
#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include <nlohmann/json.hpp>

#include "bench/machine.h"
#include "mmkd/dist/world.h"

// Repeated timings: the scheme and the field names are those of the Python peers' bench.py, so that lines compare.
namespace mmkd::bench {

using Json = nlohmann::ordered_json;

/// "median", "min", "max", "n"
Json spread(std::vector<double> values);

/// Collective. The sum over the ranks, on every rank.
double sum_over_ranks(const MpiSession& mpi, double mine);

struct Repeats {
  std::int64_t count = 3;
  double min_seconds = 4;  ///< of a window of steps
};

/// Waits until the device has done all that it was given; nothing to wait for on a CPU.
void wait_for(at::Device device);

/// One timed stretch on all ranks, with the share of the machine that others had in it. It begins and ends with idle
/// devices.
class Stretch {
 public:
  /// Collective.
  explicit Stretch(const World& world);
  struct Result {
    double seconds = 0, other_cpu = 0;
  };
  /// Collective.
  Result end() const;

 private:
  using Clock = std::chrono::steady_clock;
  const World& world_;
  CpuSeconds before_;
  Clock::time_point start_;
};

/// Rates of the stretches that are kept. One in which others had more than 8 % of the machine is measured again, after
/// waiting for quiet, but at most `repeats.count` times.
class Rates {
 public:
  Rates(const MpiSession& mpi, const Repeats& repeats) : mpi_(mpi), repeats_(repeats) {}
  /// Collective.
  void add(double samples, const Stretch::Result& stretch);
  bool complete() const { return std::ssize(rates_) >= repeats_.count; }
  double median_seconds() const;
  /// Collective.
  Json json() const;

 private:
  const MpiSession& mpi_;
  Repeats repeats_;
  std::vector<double> rates_, seconds_;
  double other_cpu_ = 0;
  std::int64_t redone_ = 0;
};

/// Windows of whole training steps: three steps of warm-up, one that decides how many steps a window has, the windows.
class StepWindows {
 public:
  StepWindows(const World& world, const Repeats& repeats)
      : world_(world), repeats_(repeats), rates_(world.mpi(), repeats) {}
  /// Collective, after every step with the samples of all ranks so far. True: all windows are done.
  bool after_step(std::int64_t samples_so_far);
  /// Collective.
  Json json() const;
  /// Steps that may be needed at most.
  static std::int64_t max_steps(const Repeats& repeats) { return kWarmUp + 2 + 2 * repeats.count * kMaxSteps; }

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr std::int64_t kWarmUp = 3, kMinSteps = 2, kMaxSteps = 400;

  const World& world_;
  Repeats repeats_;
  Rates rates_;
  std::int64_t steps_ = 0, window_steps_ = 0, window_end_ = 0, window_samples_ = 0;
  Clock::time_point calibration_;
  std::optional<Stretch> window_;
};

/// Collective. One pass that is not timed, then `repeats.count` timed ones. `prepare` is not timed; `pass` gives the
/// samples of all ranks.
Json time_passes(const World& world, const Repeats& repeats, const std::function<void()>& prepare,
                 const std::function<std::int64_t()>& pass);

}  // namespace mmkd::bench
