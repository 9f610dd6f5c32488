// Writes the first inputs of the fuzz targets of HDF5 files:  make_corpus FOLDER
#include <fstream>
#include <iostream>
#include <iterator>
#include <numeric>
#include <vector>

#include "mmkd/base/files.h"
#include "src/data/teacher_cache_file.h"
#include "tests/fuzz/hdf5_files.h"

namespace {

using namespace mmkd;

void make_shard(const fs::path& path) {
  ShardWriter writer(path, test::fuzz_shard_schema(), 0, test::kFuzzShardRows);
  const std::vector<std::string> ids{"a", "bb", "ccc"};
  const std::vector<std::vector<std::int32_t>> labels{{0, 1}, {1, 0}, {0, 2}};
  const std::vector<std::vector<std::int32_t>> tokens{{101, 5, 102}, {101, 102}, {101, 9, 8, 7, 102}};
  std::vector<std::uint8_t> pixels(static_cast<std::size_t>(test::kFuzzShardRows) * 2 * 3 * 3);
  std::iota(pixels.begin(), pixels.end(), std::uint8_t{7});
  for (std::size_t i = 0; i < ids.size(); ++i) {
    Record record{.id = ids[i]};
    record.labels = labels[i];
    record.tokens[0] = tokens[i];
    record.pixels[0] = std::span(pixels).subspan(i * 18, 18);
    writer.put(static_cast<std::int64_t>(i), record);
  }
  writer.commit();
}

void make_cache(const fs::path& path, CacheFeatures features, char mark) {
  const test::TempFolder folder;
  const auto file = folder.path() / "cache.h5";
  write_teacher_cache_file(file, test::fuzz_cache_layout(features),
                           [](std::size_t row, std::uint64_t& key, std::span<float> values) {
                             key = row;
                             std::iota(values.begin(), values.end(), static_cast<float>(row));
                           });
  write_file_atomic(path, mark + read_file(file));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "make_corpus FOLDER\n";
    return 2;
  }
  const fs::path folder = argv[1];
  make_folder(folder / "shard");
  make_shard(folder / "shard" / "whole.h5");
  const auto whole = read_file(folder / "shard" / "whole.h5");
  write_file_atomic(folder / "shard" / "truncated.h5", whole.substr(0, whole.size() / 2));
  make_folder(folder / "teacher_cache");
  make_cache(folder / "teacher_cache" / "fp32", CacheFeatures::fp32, 'f');
  make_cache(folder / "teacher_cache" / "fp16", CacheFeatures::fp16, 'h');
  return 0;
}
