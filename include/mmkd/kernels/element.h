#pragma once

namespace mmkd::kernels {

enum class Element { float32, bfloat16 };

// MMKD_CPU_KERNELS in the environment: `off` for no kernels, `avx512` for none that need more than that.

/// Whether this machine has the instructions that the kernels are made of: AVX-512 with bfloat16 (Intel Cooper Lake and
/// Sapphire Rapids, AMD Zen 4, and later). Without them no kernel may be called.
bool available();

/// Whether it multiplies tiles of bfloat16, too (AMX: Intel Sapphire Rapids and later), and this process may do so.
bool tiles_available();

}  // namespace mmkd::kernels
