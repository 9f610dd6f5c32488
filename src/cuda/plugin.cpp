#include <c10/cuda/CUDAFunctions.h>
#include <nccl.h>
#include <torch/version.h>

#include <algorithm>
#include <cstring>
#include <exception>
#include <stdexcept>
#include <string>
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>

#include "graph.h"
#include "kernels.h"
#include "plugin_abi.h"

namespace {

void copy_text(const std::string& text, char* to, std::size_t bytes) {
  if (bytes == 0) return;
  const std::size_t length = std::min(text.size(), bytes - 1);
  std::memcpy(to, text.data(), length);
  to[length] = '\0';
}

// ProcessGroupNCCL::Options holds a struct of nccl.h: another version would have another layout.
void require_nccl_of_build() {
  int version = 0;
  if (ncclGetVersion(&version) != ncclSuccess) throw std::runtime_error("ncclGetVersion failed");
  if (version / 100 == NCCL_VERSION_CODE / 100) return;
  throw std::runtime_error("built with NCCL " + std::to_string(NCCL_VERSION_CODE) + ", but the loaded library is " +
                           std::to_string(version));
}

std::int32_t device_count() {
  return c10::cuda::device_count();  // 0 rather than a throw where the driver does not answer
}

/// What body() returns; after an exception its text in `error`, and null or false.
template <class Body>
auto told(char* error, std::size_t error_bytes, Body body) -> decltype(body()) {
  try {
    return body();
  } catch (const std::exception& e) {
    copy_text(e.what(), error, error_bytes);
    return {};
  }
}

void* make_nccl_backend(const MmkdNcclRequest* request, char* error, std::size_t error_bytes) {
  return told(error, error_bytes, [&]() -> void* {
    require_nccl_of_build();
    const auto store =
        c10::intrusive_ptr<c10d::Store>::unsafe_reclaim_from_nonowning(static_cast<c10d::Store*>(request->store));
    const auto backend = c10::make_intrusive<c10d::ProcessGroupNCCL>(store, request->rank, request->size,
                                                                     c10d::ProcessGroupNCCL::Options::create());
    const at::Device device(at::kCUDA, static_cast<c10::DeviceIndex>(request->device));
    backend->setBoundDeviceId(device);
    if (request->connect_now != 0) backend->eagerConnectSingleDevice(device);
    return static_cast<c10d::Backend*>(c10::intrusive_ptr<c10d::ProcessGroupNCCL>(backend).release());
  });
}

void* make_graph(char* error, std::size_t error_bytes) { return told(error, error_bytes, mmkd::cuda::make_graph); }

template <void (*step)(void*)>
bool graph_step(void* graph, char* error, std::size_t error_bytes) {
  return told(error, error_bytes, [&] {
    step(graph);
    return true;
  });
}

bool kernels_compile(std::int32_t capability, char* error, std::size_t error_bytes) {
  return told(error, error_bytes, [&] {
    mmkd::cuda::compile_kernels(capability);
    return true;
  });
}

constexpr MmkdCudaPlugin kPlugin{kMmkdCudaAbi,
                                 TORCH_VERSION,
                                 device_count,
                                 make_nccl_backend,
                                 make_graph,
                                 graph_step<mmkd::cuda::begin_graph>,
                                 graph_step<mmkd::cuda::end_graph>,
                                 graph_step<mmkd::cuda::replay_graph>,
                                 mmkd::cuda::delete_graph,
                                 kernels_compile};

}  // namespace

extern "C" __attribute__((visibility("default"))) const MmkdCudaPlugin* mmkd_cuda_plugin() { return &kPlugin; }
