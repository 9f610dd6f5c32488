#include "src/data/shard.h"

#include <gtest/gtest.h>

#include <numeric>

#include "mmkd/base/error.h"
#include "tests/support/temp_folder.h"

namespace mmkd {
namespace {

const ShardSchema kSchema{
    .images = {{.height = 2, .width = 3, .pixel_key = "a"}, {.height = 1, .width = 1, .pixel_key = "b"}},
    .token_streams = 1,
    .tasks = 2,
    .split = "dev",
    .key = std::string(64, 'a')};
constexpr std::int64_t kRows = 5;

/// A record that owns its parts; every row has others.
struct OwnedRecord {
  explicit OwnedRecord(std::int64_t i)
      : id("sample" + std::to_string(i)),
        large(18),
        small(3, static_cast<std::uint8_t>(i)),
        tokens(static_cast<std::size_t>(i), static_cast<std::int32_t>(100 + i)),  // none in the first
        labels{static_cast<std::int32_t>(i), -1} {
    std::iota(large.begin(), large.end(), static_cast<std::uint8_t>(20 * i));
  }
  Record record() const {
    Record record;
    record.id = id;
    record.pixels = {large, small};
    record.tokens[0] = tokens;
    record.labels = labels;
    return record;
  }
  std::string id;
  std::vector<std::uint8_t> large, small;
  std::vector<std::int32_t> tokens, labels;
};

void write_rows(const fs::path& path, const std::vector<std::int64_t>& order) {
  ShardWriter writer(path, kSchema, 4, kRows);
  for (const auto i : order) writer.put(i, OwnedRecord(i).record());
  EXPECT_FALSE(fs::exists(path)) << "before it is whole";
  writer.commit();
}

TEST(ShardWriter, GivesBackEveryRecordInAnyOrder) {
  const test::TempFolder folder;
  write_rows(folder / "a.h5", {0, 1, 2, 3, 4});
  write_rows(folder / "b.h5", {3, 0, 4, 2, 1});
  EXPECT_EQ(read_file(folder / "a.h5"), read_file(folder / "b.h5"));
  const Shard shard(folder.path(), describe_shard(folder / "a.h5", kRows), kSchema, 4);
  for (std::int64_t i = 0; i < kRows; ++i) {
    const OwnedRecord row(i);
    const auto parts = shard.verify(i);
    const auto record = shard.get(i);
    EXPECT_EQ(record.id, row.id);
    EXPECT_TRUE(std::ranges::equal(record.pixels[0], row.large));
    EXPECT_TRUE(std::ranges::equal(record.pixels[1], row.small));
    EXPECT_TRUE(std::ranges::equal(record.tokens[0], row.tokens));
    EXPECT_TRUE(std::ranges::equal(record.labels, row.labels));
    EXPECT_EQ(parts.pixels, checksum_parts(row.record()).pixels);
  }
}

TEST(ShardWriter, LeavesNothingBehindUnlessCommitted) {
  const test::TempFolder folder;
  {
    ShardWriter writer(folder / "a.h5", kSchema, 0, kRows);
    writer.put(2, OwnedRecord(2).record());
    EXPECT_FALSE(fs::is_empty(folder.path()));
  }
  EXPECT_TRUE(fs::is_empty(folder.path()));
}

TEST(ShardWriter, RefusesPicturesOfAnotherSize) {
  const test::TempFolder folder;
  ShardWriter writer(folder / "a.h5", kSchema, 0, kRows);
  OwnedRecord row(1);
  row.small.push_back(0);
  try {
    writer.put(1, row.record());
    FAIL();
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("sample 'sample1': 4 bytes of pixels, 3 are expected"), std::string::npos)
        << e.what();
  }
}

TEST(ShardWriter, NamesTheShardThatCannotBeMade) {
  const test::TempFolder folder;
  write_file_atomic(folder / "file", "no folder");
  EXPECT_THROW(ShardWriter(folder / "file" / "a.h5", kSchema, 0, kRows), Error);
}

}  // namespace
}  // namespace mmkd
