#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>

#include "mmkd/data/teacher_cache.h"
#include "src/data/shard.h"
#include "tests/support/temp_folder.h"

// What the fuzz targets of HDF5 files and the program that makes their first inputs agree on.
namespace mmkd::test {

inline ShardSchema fuzz_shard_schema() {
  return {.images = {{.height = 2, .width = 3, .pixel_key = "fuzz"}},
          .token_streams = 1,
          .tasks = 2,
          .split = "train",
          .key = std::string(64, 'a')};
}
inline constexpr std::int64_t kFuzzShardRows = 3;

inline TeacherCacheLayout fuzz_cache_layout(CacheFeatures features) {
  return {.rows = 3,
          .img_raw = 2,
          .txt_raw = 3,
          .proj = 2,
          .classes = {2, 4},
          .features = features,
          .pack_key = std::string(64, 'a'),
          .teacher_key = std::string(64, 'b')};
}

/// The input as a file, since HDF5 reads files.
inline std::filesystem::path as_file(const TempFolder& folder, const std::uint8_t* data, std::size_t size) {
  auto path = folder.path() / "train-00000.h5";
  std::ofstream(path, std::ios::binary | std::ios::trunc)
      .write(reinterpret_cast<const char*>(data), static_cast<std::streamsize>(size));
  return path;
}

}  // namespace mmkd::test
