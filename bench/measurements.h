#pragma once
#include <string>
#include <vector>

#include "bench/setup.h"

namespace mmkd::bench {

/// What mmkd-bench can measure by itself; `e2e` is the driver's (bench/mmkd.py), which starts whole programs.
const std::vector<std::string>& measurements();

/// Collective. The fields of one measurement, beside those that name it; complete on rank 0.
Json measure(const Options& options, const LoadedConfig& loaded, const MpiSession& mpi);

}  // namespace mmkd::bench
