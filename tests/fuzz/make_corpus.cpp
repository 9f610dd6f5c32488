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
  const auto n = static_cast<std::size_t>(test::kFuzzShardRows);
  ShardData data{.ids = {"a", "bb", "ccc"}, .labels = {0, 1, 1, 0, 0, 2}, .pixels = {}, .tokens = {}};
  data.pixels.emplace_back(n * 2 * 3 * 3);
  std::iota(data.pixels[0].begin(), data.pixels[0].end(), std::uint8_t{7});
  data.tokens = {{{101, 5, 102}, {101, 102}, {101, 9, 8, 7, 102}}};
  write_shard(path, test::fuzz_shard_schema(), 0, data);
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
