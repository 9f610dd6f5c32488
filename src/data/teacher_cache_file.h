#pragma once
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>

#include "mmkd/data/teacher_cache.h"

namespace mmkd {

/// Writes a cache file; `row(i, key, values)` fills row i. The file must not exist.
void write_teacher_cache_file(const std::filesystem::path& path, const TeacherCacheLayout& layout,
                              const std::function<void(std::size_t, std::uint64_t&, std::span<float>)>& row);

}  // namespace mmkd
