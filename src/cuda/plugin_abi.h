#pragma once
#include <cstddef>
#include <cstdint>

// What crosses the border between mmkd_dist and libmmkd_cuda.so: one C function that gives a table of C functions. Both
// sides use the same libtorch, so pointers to torch objects may pass; exceptions and objects of mmkd may not.
extern "C" {

struct MmkdNcclRequest {
  void* store;  ///< c10d::Store*, borrowed
  std::int32_t rank, size, device;
  std::int32_t connect_now;  ///< nonzero: set up the communicator at once, so that errors show here
};

struct MmkdCudaPlugin {
  std::uint32_t abi_version;  ///< kMmkdCudaAbi of the plug-in's build
  const char* torch_version;  ///< version of the torch headers that it was built with
  std::int32_t (*device_count)();
  /// c10d::Backend* with one reference that the caller takes over; null with a text in `error` on failure.
  void* (*make_nccl_backend)(const MmkdNcclRequest* request, char* error, std::size_t error_bytes);
  /// at::cuda::CUDAGraph; null with a text in `error` on failure, as are the calls that return bool.
  void* (*make_graph)(char* error, std::size_t error_bytes);
  bool (*begin_graph)(void* graph, char* error, std::size_t error_bytes);
  bool (*end_graph)(void* graph, char* error, std::size_t error_bytes);
  bool (*replay_graph)(void* graph, char* error, std::size_t error_bytes);
  void (*delete_graph)(void* graph);
  /// Whether our kernels compile for a compute capability, 90 being 9.0, which needs no GPU; a text in `error` if not.
  bool (*kernels_compile)(std::int32_t capability, char* error, std::size_t error_bytes);
};

using MmkdCudaPluginFunction = const MmkdCudaPlugin*();
}

inline constexpr std::uint32_t kMmkdCudaAbi = 2;
inline constexpr const char* kMmkdCudaSymbol = "mmkd_cuda_plugin";
inline constexpr const char* kMmkdCudaLibrary = "libmmkd_cuda.so";
