#pragma once

namespace mmkd::kernels {

enum class Element { float32, bfloat16 };

/// Whether this machine has the instructions that the kernels are made of: AVX-512 with bfloat16 (Intel Cooper Lake and
/// Sapphire Rapids, AMD Zen 4, and later). Without them no kernel may be called.
bool available();

}  // namespace mmkd::kernels
