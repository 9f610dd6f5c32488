#pragma once

namespace mmkd {

/// From now on large tensors on the CPU take their memory from a MemoryArena, which keeps what they leave for the next
/// ones. The C library gives large blocks back to the system at once, so that every step would take them anew, page by
/// page, each page cleared: a tenth of a step and more. MMKD_MEMORY_CACHE=off in the environment, or a limit on
/// addresses (ulimit -v): nothing is changed.
void keep_tensor_memory();

}  // namespace mmkd
