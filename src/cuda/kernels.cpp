#include "kernels.h"

#include <dlfcn.h>
#include <nvrtc.h>

#include <algorithm>
#include <array>
#include <map>
#include <mutex>
#include <stdexcept>
#include <utility>
#include <vector>

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
  decltype(&nvrtcGetPTXSize) ptx_size = nullptr;
  decltype(&nvrtcGetPTX) ptx = nullptr;
  decltype(&nvrtcGetNumSupportedArchs) number_of_architectures = nullptr;
  decltype(&nvrtcGetSupportedArchs) architectures = nullptr;
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
    find(ptx_size, "nvrtcGetPTXSize");
    find(ptx, "nvrtcGetPTX");
    find(number_of_architectures, "nvrtcGetNumSupportedArchs");
    find(architectures, "nvrtcGetSupportedArchs");
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

  std::string machine_code(int capability) {
    compile("sm_" + std::to_string(capability));
    return result(nvrtc_.code_size, nvrtc_.code);
  }
  std::string ptx(int capability) {
    compile("compute_" + std::to_string(capability));
    return result(nvrtc_.ptx_size, nvrtc_.ptx);
  }

 private:
  void compile(const std::string& architecture) {
    const std::string target = "--gpu-architecture=" + architecture;
    const std::array<const char*, 2> options{target.c_str(), "--std=c++17"};
    const auto compiled = nvrtc_.compile_program(program_, static_cast<int>(options.size()), options.data());
    if (compiled != NVRTC_SUCCESS)
      throw std::runtime_error("NVRTC for " + architecture + ": " + nvrtc_.error_string(compiled) + "\n" + log());
  }
  std::string result(nvrtcResult (*size_of)(nvrtcProgram, std::size_t*), nvrtcResult (*get)(nvrtcProgram, char*)) {
    std::size_t size = 0;
    nvrtc_.check(size_of(program_, &size), "NVRTC");
    std::string code(size, '\0');
    nvrtc_.check(get(program_, code.data()), "NVRTC");
    return code;
  }
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

int newest_known_capability() {
  const auto& nvrtc = Nvrtc::get();
  int count = 0;
  nvrtc.check(nvrtc.number_of_architectures(&count), "NVRTC");
  std::vector<int> known(static_cast<std::size_t>(count));
  nvrtc.check(nvrtc.architectures(known.data()), "NVRTC");
  if (known.empty()) throw std::runtime_error("NVRTC knows no architecture");
  return *std::max_element(known.begin(), known.end());
}

int capability_of(int device) {
  int major = 0, minor = 0;
  check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device), "compute capability");
  check(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device), "compute capability");
  return 10 * major + minor;
}

/// Never unloaded: kernels may be in use until the process ends.
cudaLibrary_t library_of(int device) {
  static std::map<int, cudaLibrary_t> loaded;
  const int capability = capability_of(device);
  const auto known = loaded.find(capability);
  if (known != loaded.end()) return known->second;
  const std::string code = compile_kernels(capability);
  cudaLibrary_t library = nullptr;
  check(cudaLibraryLoadData(&library, code.data(), nullptr, nullptr, 0, nullptr, nullptr, 0), "loading kernels");
  return loaded.emplace(capability, library).first->second;
}

}  // namespace

std::string compile_kernels(int capability) {
  Program program{std::string(assets::keyed_dropout)};
  const int newest = newest_known_capability();
  return capability > newest ? program.ptx(newest) : program.machine_code(capability);
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
