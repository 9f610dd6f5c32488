// libFuzzer target: the bytes are a shard whose manifest fits it, as a hostile one's would. Whatever HDF5 makes of it,
// a shard is refused with Error, or all its records can be read.
#include <cstdint>

#include "mmkd/base/error.h"
#include "tests/fuzz/hdf5_files.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace mmkd;
  static const test::TempFolder folder;
  const auto file = test::as_file(folder, data, size);
  try {
    const auto entry = describe_shard(file, test::kFuzzShardRows);
    const Shard shard(folder.path(), entry, test::fuzz_shard_schema(), 0);
    std::uint64_t sum = 0;
    for (std::int64_t i = 0; i < shard.size(); ++i) {
      const auto record = shard.get(i);
      for (const auto byte : record.pixels[0]) sum += byte;
      for (const auto token : record.tokens[0]) sum += static_cast<std::uint64_t>(token);
      for (const auto label : record.labels) sum += static_cast<std::uint64_t>(label);
      for (const char c : record.id) sum += static_cast<std::uint64_t>(c);
      shard.verify(i);
    }
    volatile const std::uint64_t read = sum;  // every byte was touched
    (void)read;
  } catch (const Error&) {  // what a malformed shard must end in
  }
  return 0;
}
