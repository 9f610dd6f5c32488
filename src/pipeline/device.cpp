#include "mmkd/pipeline/device.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cstdlib>
#include <thread>

#include "mmkd/base/error.h"
#include "mmkd/dist/cuda_plugin.h"

namespace mmkd {

at::DeviceType choose_device(Device wanted) {
  if (wanted == Device::cpu) return at::kCPU;
  const bool available = load_cuda_plugin() && at::hasCUDA();
  if (wanted == Device::cuda && !available) {
    throw UsageError(
        "device: cuda was asked for, but no GPU can be used here; set device: cpu, or leave it out to take what is "
        "there");
  }
  return available ? at::kCUDA : at::kCPU;
}

void divide_cores(const MpiSession& mpi) {
  if (std::getenv("OMP_NUM_THREADS") != nullptr) return;  // the user has decided
  const int cores = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  at::set_num_threads(std::max(1, cores / mpi.local_size()));
}

}  // namespace mmkd
