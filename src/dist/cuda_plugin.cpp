#include "mmkd/dist/cuda_plugin.h"

#include <dlfcn.h>
#include <torch/version.h>

#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>

#include "../cuda/plugin_abi.h"
#include "cuda_backend.h"
#include "mmkd/base/error.h"
#include "mmkd/dist/device_graph.h"

namespace mmkd {

namespace {

namespace fs = std::filesystem;

bool driver_present() {
  void* driver = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL);
  if (driver == nullptr) return false;
  dlclose(driver);
  return true;
}

/// Beside the executable as built or installed; the bare name, for the dynamic linker to search, if it is not there.
std::string plugin_path() {
  std::error_code unreadable;
  const fs::path folder = fs::read_symlink("/proc/self/exe", unreadable).parent_path();
  for (const auto& candidate : {folder / ".." / "lib" / kMmkdCudaLibrary, folder / kMmkdCudaLibrary})
    if (fs::exists(candidate, unreadable)) return candidate.lexically_normal().string();
  return kMmkdCudaLibrary;
}

const MmkdCudaPlugin* open_plugin() {
  const std::string path = plugin_path();
  // RTLD_GLOBAL: torch's own libraries look for each other's symbols. Never closed: torch keeps pointers into it.
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL);
  if (library == nullptr)
    throw Error("this machine has an NVIDIA driver, but {} does not load: {}. Rebuild it, or use device: cpu.", path,
                dlerror());
  const auto function = reinterpret_cast<MmkdCudaPluginFunction*>(dlsym(library, kMmkdCudaSymbol));
  if (function == nullptr) throw Error("{} is not the CUDA plug-in: it has no {}", path, kMmkdCudaSymbol);
  const MmkdCudaPlugin* plugin = function();
  if (plugin->abi_version != kMmkdCudaAbi || plugin->torch_version != std::string_view(TORCH_VERSION))
    throw Error("{} was built with torch {} (interface {}), this program with torch {} (interface {}): rebuild both",
                path, plugin->torch_version, plugin->abi_version, TORCH_VERSION, kMmkdCudaAbi);
  return plugin;
}

/// Null without a driver.
const MmkdCudaPlugin* plugin() {
  static const MmkdCudaPlugin* const loaded = driver_present() ? open_plugin() : nullptr;
  return loaded;
}

}  // namespace

bool load_cuda_plugin() { return plugin() != nullptr; }

int cuda_device_count() { return plugin() == nullptr ? 0 : plugin()->device_count(); }

namespace {

class CudaGraph final : public DeviceGraph {
 public:
  explicit CudaGraph(const MmkdCudaPlugin& plugin) : plugin_(plugin) {
    char error[4096] = "";
    graph_ = plugin.make_graph(error, sizeof error);
    if (graph_ == nullptr) throw Error("CUDA graph: {}", error);
  }
  CudaGraph(const CudaGraph&) = delete;
  CudaGraph& operator=(const CudaGraph&) = delete;
  ~CudaGraph() override { plugin_.delete_graph(graph_); }
  void begin() override { call(plugin_.begin_graph); }
  void end() override { call(plugin_.end_graph); }
  void replay() override { call(plugin_.replay_graph); }

 private:
  void call(bool (*function)(void*, char*, std::size_t)) const {
    char error[4096] = "";
    if (!function(graph_, error, sizeof error)) throw Error("CUDA graph: {}", error);
  }

  const MmkdCudaPlugin& plugin_;
  void* graph_;
};

}  // namespace

std::unique_ptr<DeviceGraph> make_cuda_graph() {
  if (plugin() == nullptr) throw Error("CUDA graphs need an NVIDIA driver, and this machine has none");
  return std::make_unique<CudaGraph>(*plugin());
}

c10::intrusive_ptr<c10d::Backend> make_nccl_backend(const c10::intrusive_ptr<c10d::Store>& store, int rank, int size,
                                                    at::Device device) {
  if (plugin() == nullptr) throw Error("NCCL needs an NVIDIA driver, and this machine has none");
  const MmkdNcclRequest request{store.get(), rank, size, device.index(), size > 1 ? 1 : 0};
  char error[4096] = "";
  void* backend = plugin()->make_nccl_backend(&request, error, sizeof error);
  if (backend == nullptr) throw Error("NCCL cannot start on {}: {}", device.str(), error);
  return c10::intrusive_ptr<c10d::Backend>::reclaim(static_cast<c10d::Backend*>(backend));
}

}  // namespace mmkd
