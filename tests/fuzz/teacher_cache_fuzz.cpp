// libFuzzer target: the first byte chooses the type of the features, the rest is a teacher cache file. It is refused
// with Error, or all its rows can be read.
#include <cstdint>
#include <vector>

#include "mmkd/base/error.h"
#include "tests/fuzz/hdf5_files.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace mmkd;
  if (size == 0) return 0;
  static const test::TempFolder folder;
  const auto file = test::as_file(folder, data + 1, size - 1);
  const auto layout = test::fuzz_cache_layout(data[0] == 'h' ? CacheFeatures::fp16 : CacheFeatures::fp32);
  try {
    const TeacherCache cache(file, layout);
    std::vector<float> values(static_cast<std::size_t>(layout.floats_per_row()));
    for (std::int64_t i = 0; i < layout.rows; ++i) cache.read(i, static_cast<std::uint64_t>(i), values);
  } catch (const Error&) {  // what a malformed file must end in
  }
  return 0;
}
