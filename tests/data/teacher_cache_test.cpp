#include "mmkd/data/teacher_cache.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>

#include "mmkd/base/error.h"
#include "mmkd/base/files.h"
#include "mmkd/base/hash.h"
#include "mmkd/base/log.h"
#include "mmkd/base/rng.h"
#include "src/data/half.h"
#include "tests/data/small_set.h"
#include "tests/support/temp_folder.h"

namespace mmkd {
namespace {

TeacherCacheLayout small_layout(CacheFeatures features = CacheFeatures::fp32) {
  return {.rows = 10,
          .img_raw = 3,
          .txt_raw = 2,
          .proj = 2,
          .classes = {2, 4},
          .features = features,
          .pack_key = "p",
          .teacher_key = "t"};
}

std::uint64_t key_of(std::int64_t row) { return checksum64(std::to_string(row)); }

/// Without the fsyncs of write_file_atomic(), which cost more than what is tested here.
using test::write_plain;

/// A number that tells its row and place.
float value_of(std::int64_t row, std::int64_t k) { return static_cast<float>(row) + static_cast<float>(k) / 64.0F; }

void add_block(TeacherCacheJournal& journal, const TeacherCacheLayout& layout, std::int64_t block,
               std::int64_t block_rows) {
  std::vector<std::uint64_t> keys;
  std::vector<float> values;
  for (std::int64_t r = 0; r < journal.rows_of(block); ++r) {
    const std::int64_t row = block * block_rows + r;
    keys.push_back(key_of(row));
    for (std::int64_t k = 0; k < layout.floats_per_row(); ++k) values.push_back(value_of(row, k));
  }
  journal.add(block, keys, values);
}

void expect_all_rows(const fs::path& file, const TeacherCacheLayout& layout) {
  const TeacherCache cache(file, layout);
  std::vector<float> values(static_cast<std::size_t>(layout.floats_per_row()));
  for (std::int64_t row = 0; row < layout.rows; ++row) {
    cache.read(row, key_of(row), values);
    for (std::int64_t k = 0; k < layout.floats_per_row(); ++k)
      ASSERT_EQ(values[static_cast<std::size_t>(k)], value_of(row, k)) << row << " " << k;
  }
}

TEST(TeacherCache, GivesBackEveryRowWhateverTheOrderOfTheBlocks) {
  const test::TempFolder folder;
  for (const auto features : {CacheFeatures::fp32, CacheFeatures::fp16}) {  // the values fit binary16 exactly
    const auto layout = small_layout(features);
    const auto name = features == CacheFeatures::fp32 ? "a" : "b";
    TeacherCacheJournal journal(folder / (std::string(name) + ".journal"), layout, 4);
    ASSERT_EQ(journal.blocks(), 3);
    for (const int block : {2, 0, 1}) add_block(journal, layout, block, 4);
    journal.assemble(folder / name);
    expect_all_rows(folder / name, layout);
  }
}

TEST(TeacherCache, HasTheSameBytesWhateverTheOrderOfTheBlocks) {
  const test::TempFolder folder;
  const auto layout = small_layout();
  const auto build = [&](const std::string& name, const std::vector<int>& order) {
    TeacherCacheJournal journal(folder / (name + ".journal"), layout, 4);
    for (const int block : order) add_block(journal, layout, block, 4);
    journal.assemble(folder / name);
    return sha256_file(folder / name);
  };
  EXPECT_EQ(build("a", {0, 1, 2}), build("b", {1, 2, 0}));
}

TEST(TeacherCacheJournal, GoesOnAfterBeingCutAnywhere) {
  log::configure(log::Level::warn, "");  // one line a journal
  const test::TempFolder folder;
  const auto layout = small_layout();
  {
    TeacherCacheJournal journal(folder / "whole", layout, 4);
    for (int block = 0; block < 3; ++block) add_block(journal, layout, block, 4);
  }
  const std::string whole = read_file(folder / "whole");
  for (std::size_t size = 0; size <= whole.size(); size += 7) {  // 7 shares no factor with the 8-byte fields
    write_plain(folder / "cut", whole.substr(0, size));
    TeacherCacheJournal journal(folder / "cut", layout, 4);
    for (int block = 0; block < 3; ++block) {
      if (!journal.has(block)) add_block(journal, layout, block, 4);
    }
    fs::remove(folder / "cache");
    journal.assemble(folder / "cache");
    ASSERT_EQ(journal.blocks(), 3);
    expect_all_rows(folder / "cache", layout);
  }
}

TEST(TeacherCacheJournal, NeverTakesAFlippedBlock) {
  log::configure(log::Level::warn, "");  // one line a journal
  const test::TempFolder folder;
  const auto layout = small_layout();
  {
    TeacherCacheJournal journal(folder / "whole", layout, 4);
    for (int block = 0; block < 3; ++block) add_block(journal, layout, block, 4);
  }
  const std::string whole = read_file(folder / "whole");
  for (std::size_t at = 0; at < whole.size(); ++at) {
    std::string flipped = whole;
    flipped[at] = static_cast<char>(flipped[at] ^ 0x10);
    write_plain(folder / "flipped", flipped);
    const TeacherCacheJournal journal(folder / "flipped", layout, 4);
    EXPECT_FALSE(journal.has(0) && journal.has(1) && journal.has(2)) << "byte " << at;
  }
}

TEST(TeacherCacheJournal, StartsAnewForAnotherLayout) {
  const test::TempFolder folder;
  auto layout = small_layout();
  {
    TeacherCacheJournal journal(folder / "j", layout, 4);
    add_block(journal, layout, 0, 4);
  }
  layout.teacher_key = "another teacher";
  const TeacherCacheJournal journal(folder / "j", layout, 4);
  EXPECT_FALSE(journal.has(0));
}

TEST(TeacherCacheJournal, RefusesWhatIsIncompleteTwiceOrNotFinite) {
  const test::TempFolder folder;
  const auto layout = small_layout();
  TeacherCacheJournal journal(folder / "j", layout, 4);
  add_block(journal, layout, 0, 4);
  EXPECT_THROW(add_block(journal, layout, 0, 4), Error);
  EXPECT_THROW(journal.assemble(folder / "cache"), Error);
  EXPECT_FALSE(fs::exists(folder / "cache"));
  std::vector<std::uint64_t> keys(4);
  std::vector<float> values(static_cast<std::size_t>(4 * layout.floats_per_row()));
  EXPECT_THROW(journal.add(1, keys, std::span(values).first(3)), Error);
  values[20] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THROW(journal.add(1, keys, values), Error);
}

TEST(TeacherCache, ReadsFilesOfTheVersionWithoutAChecksumOfTheirTables) {
  const test::TempFolder folder;
  const fs::path corpus = MMKD_SOURCE_DIR "/tests/fuzz/corpus/teacher_cache/version_1";
  write_plain(folder / "cache", read_file(corpus).substr(1));  // the first byte is the fuzz target's
  const TeacherCacheLayout layout{.rows = 3,
                                  .img_raw = 2,
                                  .txt_raw = 3,
                                  .proj = 2,
                                  .classes = {2, 4},
                                  .features = CacheFeatures::fp32,
                                  .pack_key = std::string(64, 'a'),
                                  .teacher_key = std::string(64, 'b')};
  const TeacherCache cache(folder / "cache", layout);
  std::vector<float> values(static_cast<std::size_t>(layout.floats_per_row()));
  cache.read(2, 2, values);
  EXPECT_EQ(values.front(), 2.0F);
}

TEST(TeacherCache, RefusesAnotherLayoutAndAnotherSample) {
  const test::TempFolder folder;
  auto layout = small_layout();
  TeacherCacheJournal journal(folder / "j", layout, 4);
  for (int block = 0; block < 3; ++block) add_block(journal, layout, block, 4);
  journal.assemble(folder / "cache");
  std::vector<float> values(static_cast<std::size_t>(layout.floats_per_row()));
  EXPECT_THROW(TeacherCache(folder / "cache", layout).read(1, key_of(2), values), Error);
  EXPECT_THROW(TeacherCache(folder / "cache", layout).read(10, key_of(10), values), Error);
  layout.classes = {4, 2};
  EXPECT_THROW(TeacherCache(folder / "cache", layout), Error);
  layout = small_layout();
  layout.teacher_key = "another";
  EXPECT_THROW(TeacherCache(folder / "cache", layout), Error);
  EXPECT_THROW(TeacherCache(folder / "missing", small_layout()), Error);
}

TEST(Half, RoundTripsEveryPattern) {
  for (std::uint32_t bits = 0; bits < 65536; ++bits) {
    const auto half = static_cast<std::uint16_t>(bits);
    const float value = from_half(half);
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(from_half(to_half(value))));
    } else {
      EXPECT_EQ(to_half(value), half);
    }
  }
}

TEST(Half, RoundsToTheNearestAndTiesToEven) {
  EXPECT_EQ(from_half(0x3C00), 1.0F);
  EXPECT_EQ(from_half(0x7BFF), 65504.0F);
  EXPECT_EQ(from_half(0x0001), 0x1.0p-24F);
  EXPECT_EQ(to_half(1.0F + 0x1.0p-11F), 0x3C00);  // half way between 1 and the next: even
  EXPECT_EQ(to_half(1.0F + 0x1.0p-11F + 0x1.0p-20F), 0x3C01);
  EXPECT_EQ(to_half(1.0F + 3 * 0x1.0p-11F), 0x3C02);
  EXPECT_EQ(to_half(65519.0F), 0x7BFF);
  EXPECT_EQ(to_half(65520.0F), 0x7C00);
  EXPECT_EQ(to_half(0x1.0p-25F), 0x0000);
  EXPECT_EQ(to_half(0x1.8p-25F), 0x0001);
  EXPECT_EQ(to_half(-2.0F), 0xC000);
  KeyedRng rng(2, RngPurpose::demo);
  for (int i = 0; i < 100000; ++i) {
    const auto value = static_cast<float>(rng.normal() * std::exp(10 * rng.normal()));
    if (std::abs(value) >= 65504 || std::abs(value) < 0x1.0p-14F) continue;
    EXPECT_LE(std::abs(from_half(to_half(value)) - value), std::abs(value) * 0x1.0p-11F) << value;
  }
}

}  // namespace
}  // namespace mmkd
