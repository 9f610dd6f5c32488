#pragma once
#include <cstdint>

#include "mmkd/config/config.h"

namespace mmkd {

/// Learning rate over the steps of one stage.
struct ScheduleConfig {
  Schedule schedule = Schedule::constant;
  double peak_lr = 3e-4;
  std::int64_t warmup_steps = 0;  ///< linear from 0 to peak_lr; 0 disables
  std::int64_t total_steps = 0;   ///< of the stage, warm-up included
};

/// Steps of a warm-up that takes `fraction` of all steps, rounded up as transformers does.
std::int64_t warmup_steps(double fraction, std::int64_t total_steps);

/// Rate of the optimizer step number `step`, from 0. The first step of a warm-up has rate 0. After total_steps linear
/// stays at 0, and cosine rises again, as the schedulers of transformers do.
double learning_rate(const ScheduleConfig& config, std::int64_t step);

}  // namespace mmkd
