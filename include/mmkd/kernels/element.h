#pragma once

namespace mmkd::kernels {

enum class Element { float32, bfloat16 };

// MMKD_CPU_KERNELS in the environment: `off` for no kernels, `avx2` or `avx512` for none that need more than that.

/// Whether this machine has the instructions that the kernels for `element` are made of: for float32 AVX2 with FMA
/// (Intel Haswell, AMD Zen, and later), for bfloat16 AVX-512 with bfloat16 (Intel Cooper Lake and Sapphire Rapids, AMD
/// Zen 4, and later), which float32 then uses, too, for the same bits. Without them no kernel may be called.
bool available(Element element);

/// Whether it multiplies tiles of bfloat16, too (AMX: Intel Sapphire Rapids and later), and this process may do so.
bool tiles_available();

}  // namespace mmkd::kernels
