#include "kernels.h"

#include <dlfcn.h>
#include <nvrtc.h>

#include <array>
#include <map>
#include <mutex>
#include <stdexcept>
#include <utility>

#include "sources.h"

namespace mmkd::cuda {
namespace {

/// NVRTC, which has some 100 MB and is loaded only where a kernel is used. CMakeLists.txt says where it is looked for.
class Nvrtc {
 public:
  static const Nvrtc& get() {
    static const Nvrtc instance;
    return instance;
  }

  decltype(&nvrtcCreateProgram) create_program = nullptr;
  decltype(&nvrtcDestroyProgram) destroy_program = nullptr;
  decltype(&nvrtcCompileProgram) compile_program = nullptr;
  decltype(&nvrtcGetProgramLogSize) log_size = nullptr;
  decltype(&nvrtcGetProgramLog) log = nullptr;
  decltype(&nvrtcGetCUBINSize) code_size = nullptr;
  decltype(&nvrtcGetCUBIN) code = nullptr;
  decltype(&nvrtcGetErrorString) error_string = nullptr;

  void check(nvrtcResult result, const char* what) const {
    if (result != NVRTC_SUCCESS) throw std::runtime_error(std::string(what) + ": " + error_string(result));
  }

 private:
  Nvrtc() : library_(dlopen("libnvrtc.so.13", RTLD_NOW | RTLD_LOCAL)) {
    if (library_ == nullptr) throw std::runtime_error(std::string("NVRTC does not load: ") + dlerror());
    find(create_program, "nvrtcCreateProgram");
    find(destroy_program, "nvrtcDestroyProgram");
    find(compile_program, "nvrtcCompileProgram");
    find(log_size, "nvrtcGetProgramLogSize");
    find(log, "nvrtcGetProgramLog");
    find(code_size, "nvrtcGetCUBINSize");
    find(code, "nvrtcGetCUBIN");
    find(error_string, "nvrtcGetErrorString");
  }
  template <class Function>
  void find(Function& function, const char* name) {
    function = reinterpret_cast<Function>(dlsym(library_, name));
    if (function == nullptr) throw std::runtime_error(std::string("NVRTC has no ") + name);
  }

  void* library_;  // never closed
};

class Program {
 public:
  explicit Program(const std::string& source) {
    nvrtc_.check(nvrtc_.create_program(&program_, source.c_str(), "mmkd.cu", 0, nullptr, nullptr), "NVRTC");
  }
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;
  ~Program() { nvrtc_.destroy_program(&program_); }

  std::string compiled(const std::string& architecture) {
    const std::string target = "--gpu-architecture=" + architecture;
    const std::array<const char*, 2> options{target.c_str(), "--std=c++17"};
    const auto result = nvrtc_.compile_program(program_, static_cast<int>(options.size()), options.data());
    if (result != NVRTC_SUCCESS)
      throw std::runtime_error("NVRTC for " + architecture + ": " + nvrtc_.error_string(result) + "\n" + log());
    std::size_t size = 0;
    nvrtc_.check(nvrtc_.code_size(program_, &size), "NVRTC");
    std::string code(size, '\0');
    nvrtc_.check(nvrtc_.code(program_, code.data()), "NVRTC");
    return code;
  }

 private:
  std::string log() const {
    std::size_t size = 0;
    if (nvrtc_.log_size(program_, &size) != NVRTC_SUCCESS) return {};
    std::string text(size, '\0');
    return nvrtc_.log(program_, text.data()) == NVRTC_SUCCESS ? text : std::string();
  }

  const Nvrtc& nvrtc_ = Nvrtc::get();
  nvrtcProgram program_ = nullptr;
};

void check(cudaError_t result, const std::string& what) {
  if (result != cudaSuccess) throw std::runtime_error(what + ": " + cudaGetErrorString(result));
}

std::string architecture_of(int device) {
  int major = 0, minor = 0;
  check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device), "compute capability");
  check(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device), "compute capability");
  return "sm_" + std::to_string(10 * major + minor);
}

/// Never unloaded: kernels may be in use until the process ends.
cudaLibrary_t library_of(int device) {
  static std::map<std::string, cudaLibrary_t> loaded;
  const std::string architecture = architecture_of(device);
  const auto known = loaded.find(architecture);
  if (known != loaded.end()) return known->second;
  const std::string code = compile_kernels(architecture);
  cudaLibrary_t library = nullptr;
  check(cudaLibraryLoadData(&library, code.data(), nullptr, nullptr, 0, nullptr, nullptr, 0),
        "loading kernels for " + architecture);
  return loaded.emplace(architecture, library).first->second;
}

}  // namespace

std::string compile_kernels(const std::string& architecture) {
  return Program(std::string(assets::keyed_dropout)).compiled(architecture);
}

cudaKernel_t kernel(const char* name) {
  static std::mutex mutex;
  static std::map<std::pair<int, std::string>, cudaKernel_t> known;
  const std::scoped_lock lock(mutex);
  int device = 0;
  check(cudaGetDevice(&device), "current device");
  auto& found = known[{device, name}];
  if (found == nullptr) check(cudaLibraryGetKernel(&found, library_of(device), name), std::string("kernel ") + name);
  return found;
}

}  // namespace mmkd::cuda
