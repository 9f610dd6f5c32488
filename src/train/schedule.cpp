#include "mmkd/train/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "mmkd/base/error.h"

namespace mmkd {

std::int64_t warmup_steps(double fraction, std::int64_t total_steps) {
  if (!(fraction >= 0.0 && fraction <= 1.0)) {
    throw UsageError("training.warmup_fraction: a number from 0 to 1 is expected; found {}", fraction);
  }
  return static_cast<std::int64_t>(std::ceil(fraction * static_cast<double>(total_steps)));
}

double learning_rate(const ScheduleConfig& config, std::int64_t step) {
  const auto at_least_one = [](std::int64_t n) { return static_cast<double>(std::max<std::int64_t>(n, 1)); };
  if (step < config.warmup_steps) {
    return config.peak_lr * static_cast<double>(step) / at_least_one(config.warmup_steps);
  }
  const double decay_steps = at_least_one(config.total_steps - config.warmup_steps);
  switch (config.schedule) {
    case Schedule::constant:
      return config.peak_lr;
    case Schedule::linear:
      return config.peak_lr * std::max(0.0, static_cast<double>(config.total_steps - step) / decay_steps);
    case Schedule::cosine: {
      const double progress = static_cast<double>(step - config.warmup_steps) / decay_steps;
      return config.peak_lr * std::max(0.0, 0.5 * (1.0 + std::cos(std::numbers::pi * progress)));
    }
  }
  throw Error("schedule {} is none of the known", static_cast<int>(config.schedule));
}

}  // namespace mmkd
