#pragma once
#include <cstdint>
#include <filesystem>

#include "mmkd/config/config.h"
#include "mmkd/data/sample.h"

namespace mmkd {

struct PreviewOptions {
  Split split = Split::train;
  std::int64_t samples = 12, columns = 4;
  std::int64_t seed = 0;         ///< which samples
  std::filesystem::path output;  ///< .png
};

/// Draws samples as the student sees them (resized and cropped by its policy), each with its id, its labels and the
/// start of its text. Characters beyond ASCII appear as '?'. Throws Error for samples that cannot be read, UsageError
/// for an empty split.
void write_preview(const Config& config, const PreviewOptions& options);

}  // namespace mmkd
