#pragma once
#include <unistd.h>

#include <cstddef>
#include <fstream>

namespace mmkd::test {

/// Memory that this process has, in megabytes. Private pages of zeros that were only read do not count.
inline double resident_megabytes() {
  std::size_t all = 0, present = 0;
  std::ifstream("/proc/self/statm") >> all >> present;
  return static_cast<double>(present) * static_cast<double>(sysconf(_SC_PAGESIZE)) / 1e6;
}

}  // namespace mmkd::test
