#pragma once
#include <filesystem>
#include <span>

#include "mmkd/weights/tensors.h"

namespace mmkd {

/// Writes what Python's torch.save(dict of name -> tensor) would: torch.load(file, weights_only=True) gives a plain
/// dict, ready for load_state_dict(). Atomic; tensors of any device, in the given order. Equal input gives equal bytes.
/// Throws Error if a name occurs twice or the file cannot be written.
void save_state_dict(const std::filesystem::path& file, std::span<const NamedTensor> tensors);

}  // namespace mmkd
