#pragma once

namespace mmkd {

/// CUDA and NCCL are in a library of their own, libmmkd_cuda.so, so that a machine without an NVIDIA driver starts fast
/// and loads nothing of them. It is looked for in `../lib` and `.` seen from the executable's folder, then where the
/// dynamic linker looks.
///
/// Loads it if there is a driver (libcuda.so.1 opens), and says whether CUDA can be used now. Call it before anything
/// of torch, since torch asks for CUDA support once; later calls give the same answer. Throws Error if there is a
/// driver but the plug-in is missing, broken or built for another torch.
bool load_cuda_plugin();

/// GPUs that this process sees; 0 without the plug-in.
int cuda_device_count();

}  // namespace mmkd
