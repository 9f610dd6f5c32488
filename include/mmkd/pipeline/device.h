#pragma once
#include <ATen/ATen.h>

#include "mmkd/comm/mpi_session.h"
#include "mmkd/config/config.h"

namespace mmkd {

/// The device type to compute on. Throws UsageError if cuda is asked for where there is no GPU.
at::DeviceType choose_device(Device wanted);

/// Gives this rank its share of the cores that it may use, unless OMP_NUM_THREADS says how many threads it gets.
void divide_cores(const MpiSession& mpi);

}  // namespace mmkd
