#pragma once
#include <cstdint>

// What the machine and this process did, from /proc.
namespace mmkd::bench {

/// Busy CPU seconds since boot and since the process began.
struct CpuSeconds {
  double machine = 0, own = 0;
};
CpuSeconds cpu_seconds();

/// High-water mark of this process's resident memory.
double peak_rss_mb();

/// Seconds of the wall clock, comparable between processes.
double wall_seconds();
/// When this process began, on that clock.
double process_start();

/// Sleeps until the rest of the machine uses less than a tenth of one core for a second; at most 20 s.
void wait_until_quiet();

int cores();

}  // namespace mmkd::bench
