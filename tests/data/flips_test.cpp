#include "tests/support/flips.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <optional>

#include "mmkd/base/error.h"
#include "mmkd/base/hash.h"
#include "mmkd/base/log.h"
#include "mmkd/data/pack.h"
#include "mmkd/data/teacher_cache.h"
#include "tests/data/small_set.h"

// One changed byte anywhere in what the data folder writes.
namespace mmkd {
namespace {

namespace fs = std::filesystem;

TEST(Flips, InPackedDataAreNoticedByReadingAndByVerifying) {
  const test::SmallSet set;
  const auto folder = test::pack_alone(set.config).folder;
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().filename() != "stage.json") files.push_back(entry.path());  // which is the stage store's
  }
  std::sort(files.begin(), files.end());
  ASSERT_EQ(files.size(), 6U) << "five shards and the manifest";
  test::expect_every_flip_is_noticed(files, 1, [&] {
    const auto info = read_packed_info(folder);
    for (const Split split : kSplits) {
      const PackedSplit samples(info, split, true);
      for (std::int64_t i = 0; i < samples.size(); ++i) (void)samples.get(i);
    }
  });
  test::expect_every_flip_is_noticed(files, 2, [&] {
    const auto problems = verify_pack(folder);
    if (!problems.empty()) throw Error("{}", problems.front());
  });
}

/// A cache of 40 rows, built from blocks of 16.
class FlippedCache : public ::testing::TestWithParam<CacheFeatures> {
 protected:
  FlippedCache() {
    TeacherCacheJournal blocks(journal_, layout_, kBlockRows);
    fill(blocks);
    blocks.assemble(cache_);
  }

  /// Adds the blocks that are missing.
  void fill(TeacherCacheJournal& blocks) const {
    for (std::int64_t block = 0; block < blocks.blocks(); ++block) {
      if (blocks.has(block)) continue;
      std::vector<std::uint64_t> keys;
      for (std::int64_t row = 0; row < blocks.rows_of(block); ++row) keys.push_back(key_of(block * kBlockRows + row));
      std::vector<float> values(keys.size() * static_cast<std::size_t>(layout_.floats_per_row()));
      KeyedRng rng(static_cast<std::uint64_t>(block), RngPurpose::perturb);
      for (auto& value : values) value = static_cast<float>(rng.normal());
      blocks.add(block, keys, values);
    }
  }

  static std::uint64_t key_of(std::int64_t row) { return checksum64(std::to_string(row)); }

  static constexpr std::int64_t kBlockRows = 16;
  const TeacherCacheLayout layout_{.rows = 40,
                                   .img_raw = 24,
                                   .txt_raw = 16,
                                   .proj = 12,
                                   .classes = {2, 4},
                                   .features = GetParam(),
                                   .pack_key = std::string(64, 'a'),
                                   .teacher_key = std::string(64, 'b')};
  const test::TempFolder folder_;
  const fs::path journal_ = folder_ / "blocks.journal", cache_ = folder_ / "teacher_outputs.h5";
};

TEST_P(FlippedCache, IsNoticedWhenItIsOpenedOrItsRowsAreRead) {
  std::vector<float> values(static_cast<std::size_t>(layout_.floats_per_row()));
  test::expect_every_flip_is_noticed({cache_}, 3, [&] {
    const TeacherCache cache(cache_, layout_);
    for (std::int64_t row = 0; row < layout_.rows; ++row) cache.read(row, key_of(row), values);
  });
}

TEST_P(FlippedCache, ComesOutOfADamagedJournalWithTheSameBytes) {
  log::configure(log::Level::warn, "");  // one line a flip
  const auto whole = test::read_plain(journal_);
  const auto want = test::read_plain(cache_);
  int opened = 0;
  test::expect_every_flip_is_noticed({journal_}, 4, [&] {
    constexpr int kBuiltOf = 50;  // every block that is added is flushed to the disk
    const auto flipped = test::read_plain(journal_);
    std::optional<TeacherCacheJournal> blocks(std::in_place, journal_, layout_, kBlockRows);
    bool missing = false;
    for (std::int64_t block = 0; block < blocks->blocks(); ++block) missing = missing || !blocks->has(block);
    if (++opened % kBuiltOf == 0) {
      fill(*blocks);
      fs::remove(folder_ / "again.h5");
      blocks->assemble(folder_ / "again.h5");
      EXPECT_TRUE(test::read_plain(folder_ / "again.h5") == want);
    }
    blocks.reset();
    test::write_plain(journal_, flipped);  // opening it cut off what was damaged
    if (missing) throw Error("blocks were missing");
  });
  EXPECT_TRUE(test::read_plain(journal_) == whole);
}

INSTANTIATE_TEST_SUITE_P(Features, FlippedCache, ::testing::Values(CacheFeatures::fp32, CacheFeatures::fp16),
                         [](const auto& features) { return features.param == CacheFeatures::fp32 ? "fp32" : "fp16"; });

}  // namespace
}  // namespace mmkd
