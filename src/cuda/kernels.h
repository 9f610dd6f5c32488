#pragma once
#include <cuda_runtime_api.h>

#include <string>

namespace mmkd::cuda {

/// Our kernels as machine code for an architecture such as "sm_90", by NVRTC. No GPU is needed. Throws
/// std::runtime_error with the compiler's words.
std::string compile_kernels(const std::string& architecture);

/// One of them on the current device, compiled for it at the first call in a process (some tenths of a second). Throws
/// std::runtime_error.
cudaKernel_t kernel(const char* name);

}  // namespace mmkd::cuda
