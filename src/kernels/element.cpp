#include "mmkd/kernels/element.h"

#include <cstdlib>
#include <string_view>

#include "kernel_table.h"

#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace mmkd::kernels {
namespace {

std::string_view wished_kernels() {
  const char* wish = std::getenv("MMKD_CPU_KERNELS");
  return wish == nullptr ? "" : wish;
}

bool has_avx512() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512bf16");
#else
  return false;
#endif
}

bool has_avx2() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
  return false;
#endif
}

/// Linux lets a process use the tiles' registers only after it has asked, once for all its threads.
bool has_tiles() {
#if defined(__x86_64__) && defined(__linux__)
  // Not by __builtin_cpu_supports: old versions of clang do not know these names.
  unsigned a = 0, b = 0, c = 0, d = 0;
  constexpr unsigned kFeatures = 7, kBfloat16 = 1U << 22, kTiles = 1U << 24;  // in EDX
  if (__get_cpuid_count(kFeatures, 0, &a, &b, &c, &d) == 0 || (d & kBfloat16) == 0 || (d & kTiles) == 0) return false;
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}

const KernelTable* chosen_table() {
  const auto wish = wished_kernels();
  if (wish == "off") return nullptr;
  if (avx512_kernels != nullptr && wish != "avx2" && has_avx512()) return avx512_kernels;
  return has_avx2() ? avx2_kernels : nullptr;
}

const KernelTable* table() {
  static const KernelTable* const chosen = chosen_table();
  return chosen;
}

}  // namespace

const KernelTable& kernel_table() { return *table(); }

bool available(Element element) {
  if (element == Element::bfloat16) return table() != nullptr && table() == avx512_kernels;
  return table() != nullptr;
}

bool tiles_available() {
  static const bool result = available(Element::bfloat16) && wished_kernels() != "avx512" && has_tiles();
  return result;
}

}  // namespace mmkd::kernels
