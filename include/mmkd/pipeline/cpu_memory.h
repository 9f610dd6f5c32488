#pragma once

namespace mmkd {

/// From now on large tensors on the CPU take their memory from a MemoryArena, which keeps what they leave for the next
/// ones. The C library gives large blocks back to the system at once, so that every step would take them anew, page by
/// page, each page cleared: a tenth of a step and more. MMKD_MEMORY_CACHE=off in the environment, or a limit on
/// addresses (ulimit -v): nothing is changed.
void keep_tensor_memory();

/// Of each size of a product torch keeps a descriptor, 1,024 of them of some 70 KB each, beside the compiled product
/// that oneDNN keeps itself. From now on it keeps 64, which costs no time that could be measured; LRU_CACHE_CAPACITY in
/// the environment says otherwise. To be called first in main(): it changes the environment, which other threads might
/// read.
void keep_few_descriptors();

}  // namespace mmkd
