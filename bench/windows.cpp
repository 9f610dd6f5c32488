#include "bench/windows.h"

#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <cmath>
#include <cstring>

namespace mmkd::bench {
namespace {

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const std::size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : 0.5 * (values[middle - 1] + values[middle]);
}

double rounded(double value, double parts) { return std::round(value * parts) / parts; }

std::vector<double> of_all_ranks(const MpiSession& mpi, double mine) {
  std::string bytes(sizeof mine, '\0');
  std::memcpy(bytes.data(), &mine, sizeof mine);
  std::vector<double> values;
  for (const auto& part : mpi.all_gather(bytes)) std::memcpy(&values.emplace_back(), part.data(), sizeof mine);
  return values;
}

}  // namespace

Json spread(std::vector<double> values) {
  const auto [low, high] = std::minmax_element(values.begin(), values.end());
  return {{"median", rounded(median(values), 1e3)},
          {"min", rounded(*low, 1e3)},
          {"max", rounded(*high, 1e3)},
          {"n", values.size()}};
}

double sum_over_ranks(const MpiSession& mpi, double mine) {
  double sum = 0;
  for (const double value : of_all_ranks(mpi, mine)) sum += value;
  return sum;
}

void wait_for(at::Device device) {
  if (!device.is_cpu()) c10::impl::VirtualGuardImpl(device.type()).synchronizeDevice(device.index());
}

Stretch::Stretch(const World& world) : world_(world) {
  wait_for(world_.device());
  world_.mpi().barrier();
  before_ = cpu_seconds();
  start_ = Clock::now();
}

Stretch::Result Stretch::end() const {
  wait_for(world_.device());
  const auto& mpi = world_.mpi();
  mpi.barrier();
  const double seconds = std::chrono::duration<double>(Clock::now() - start_).count();
  const CpuSeconds after = cpu_seconds();
  // Rank 0's values for what must be the same on every rank. All ranks are taken to be on this machine.
  const double own = sum_over_ranks(mpi, after.own - before_.own);
  const double machine = of_all_ranks(mpi, after.machine - before_.machine).front();
  const double shared_seconds = of_all_ranks(mpi, seconds).front();
  return {shared_seconds, std::max(0.0, machine - own) / (shared_seconds * cores())};
}

void Rates::add(double samples, const Stretch::Result& stretch) {
  if (stretch.other_cpu > 0.08 && redone_ < repeats_.count) {
    ++redone_;
    if (mpi_.rank() == 0) wait_until_quiet();
    return;
  }
  rates_.push_back(samples / stretch.seconds);
  seconds_.push_back(stretch.seconds);
  other_cpu_ = std::max(other_cpu_, stretch.other_cpu);
}

double Rates::median_seconds() const { return median(seconds_); }

Json Rates::json() const {
  Json json{{"unit", "samples/s"}};
  json.update(spread(rates_));
  json["other_cpu"] = rounded(other_cpu_, 1e3);
  json["windows_redone"] = redone_;
  json["rss_mb"] = rounded(sum_over_ranks(mpi_, peak_rss_mb()), 10);
  return json;
}

bool StepWindows::after_step(std::int64_t samples_so_far) {
  ++steps_;
  if (steps_ == kWarmUp || steps_ == kWarmUp + 1) wait_for(world_.device());
  if (steps_ == kWarmUp) calibration_ = Clock::now();
  if (steps_ <= kWarmUp) return false;
  if (steps_ == kWarmUp + 1) {
    const double mine = std::chrono::duration<double>(Clock::now() - calibration_).count();
    const double step = of_all_ranks(world_.mpi(), mine).front();
    window_steps_ = std::clamp(static_cast<std::int64_t>(repeats_.min_seconds / step), kMinSteps, kMaxSteps);
  } else if (steps_ < window_end_) {
    return false;
  } else {
    rates_.add(static_cast<double>(samples_so_far - window_samples_), window_->end());
    if (rates_.complete()) return true;
  }
  window_end_ = steps_ + window_steps_;
  window_samples_ = samples_so_far;
  window_.emplace(world_);
  return false;
}

Json StepWindows::json() const {
  Json json = rates_.json();
  json["steps_per_window"] = window_steps_;
  json["step_ms"] = rounded(1e3 * rates_.median_seconds() / static_cast<double>(window_steps_), 100);
  return json;
}

Json time_passes(const World& world, const Repeats& repeats, const std::function<void()>& prepare,
                 const std::function<std::int64_t()>& pass) {
  prepare();
  pass();
  Rates rates(world.mpi(), repeats);
  while (!rates.complete()) {
    prepare();
    const Stretch stretch(world);
    const auto samples = pass();
    rates.add(static_cast<double>(samples), stretch.end());
  }
  return rates.json();
}

}  // namespace mmkd::bench
