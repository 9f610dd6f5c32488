#pragma once

namespace mmkd {

/// From now on tensors on the CPU keep their memory for the next tensor of about the same size, in huge pages where the
/// system has them. The C library gives large blocks back to the system at once, so that every step would take them
/// anew, page by page, each page cleared: a tenth of a step and more. With what is kept, memory never exceeds what
/// tensors have once needed at the same time by more than a quarter. MMKD_MEMORY_CACHE=off in the environment: nothing
/// is changed.
void keep_tensor_memory();

}  // namespace mmkd
