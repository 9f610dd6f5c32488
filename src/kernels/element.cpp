#include "mmkd/kernels/element.h"

#include <cstdlib>
#include <string_view>

#if defined(__x86_64__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace mmkd::kernels {
namespace {

std::string_view wished_kernels() {
  const char* wish = std::getenv("MMKD_CPU_KERNELS");
  return wish == nullptr ? "" : wish;
}

bool has_vectors() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512bf16");
#else
  return false;
#endif
}

/// Linux lets a process use the tiles' registers only after it has asked, once for all its threads.
bool has_tiles() {
#if defined(__x86_64__) && defined(__linux__)
  if (!__builtin_cpu_supports("amx-tile") || !__builtin_cpu_supports("amx-bf16")) return false;
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}

}  // namespace

bool available() {
  static const bool result = wished_kernels() != "off" && has_vectors();
  return result;
}

bool tiles_available() {
  static const bool result = available() && wished_kernels() != "avx512" && has_tiles();
  return result;
}

}  // namespace mmkd::kernels
