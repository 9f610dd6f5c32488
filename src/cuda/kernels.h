#pragma once
#include <cuda_runtime_api.h>

#include <string>

namespace mmkd::cuda {

/// Our kernels for GPUs of this compute capability, 90 being 9.0, by NVRTC: as machine code or, where NVRTC does not
/// know them yet, as PTX of the newest that it knows, which the driver compiles. No GPU is needed. Throws
/// std::runtime_error with the compiler's words.
std::string compile_kernels(int capability);

/// One of them on the current device, compiled for it at the first call in a process (some tenths of a second). Throws
/// std::runtime_error.
cudaKernel_t kernel(const char* name);

}  // namespace mmkd::cuda
