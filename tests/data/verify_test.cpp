#include <gtest/gtest.h>

#include <fstream>
#include <random>

#include "mmkd/base/error.h"
#include "mmkd/base/files.h"
#include "mmkd/data/pack.h"
#include "src/data/manifest.h"
#include "tests/data/small_set.h"

namespace mmkd {
namespace {

using test::read_plain;
using test::SmallSet;
using test::write_plain;

constexpr int kFlips = 300;

/// One packed set for all tests here; each damages a copy of its own.
class DamagedPack : public ::testing::Test {
 protected:
  DamagedPack() : folder_(copies_ / "pack") { fs::copy(sound(), folder_); }

  static fs::path sound() {
    static const SmallSet set;
    static const fs::path folder = [] { return test::pack_alone(set.config).folder; }();
    return folder;
  }

  /// Opens every split and reads every record as training does; the error, or empty.
  std::string read_all() const {
    try {
      const auto info = read_packed_info(folder_);
      for (const Split split : kSplits) {
        const PackedSplit samples(info, split, true);
        for (std::int64_t i = 0; i < samples.size(); ++i) (void)samples.get(i);
      }
      return "";
    } catch (const Error& e) {
      return e.what();
    }
  }

  /// Changes bytes of a file at random places, one at a time; both ways of reading must notice each.
  void expect_every_flip_is_noticed(const std::string& file, unsigned seed) const {
    const std::string bytes = read_plain(folder_ / file);
    std::mt19937 random(seed);
    for (int k = 0; k < kFlips; ++k) {
      const std::size_t at = random() % bytes.size();
      std::string changed = bytes;
      changed[at] = static_cast<char>(changed[at] ^ static_cast<char>(1 + random() % 255));
      write_plain(folder_ / file, changed);
      EXPECT_FALSE(verify_pack(folder_).empty()) << file << ", offset " << at;
      EXPECT_FALSE(read_all().empty()) << file << ", offset " << at;
    }
    write_plain(folder_ / file, bytes);
    EXPECT_TRUE(verify_pack(folder_).empty());
    EXPECT_TRUE(read_all().empty());
  }

  void expect_one_problem(const std::vector<std::string>& parts) const {
    const auto problems = verify_pack(folder_);
    ASSERT_EQ(problems.size(), 1U);
    for (const auto& part : parts) EXPECT_NE(problems[0].find(part), std::string::npos) << problems[0];
    EXPECT_FALSE(read_all().empty());
  }

  test::TempFolder copies_;
  fs::path folder_;
};

TEST_F(DamagedPack, NoticesEveryChangedByteOfAShard) { expect_every_flip_is_noticed("train-00001.h5", 1); }

TEST_F(DamagedPack, NoticesEveryChangedByteOfTheManifest) { expect_every_flip_is_noticed("manifest.json", 2); }

TEST_F(DamagedPack, NoticesOtherWhiteSpaceInTheManifest) {
  auto text = read_plain(folder_ / "manifest.json");
  text[text.find('\n')] = '\t';  // the values stay the same
  write_plain(folder_ / "manifest.json", text);
  expect_one_problem({"manifest.json", "is damaged"});
}

TEST_F(DamagedPack, NamesShardRecordAndSampleOfAChangedPicture) {
  const auto entry = read_manifest(folder_).shards[0][1];  // samples 5 to 9 of train
  auto bytes = read_plain(folder_ / entry.file);
  const auto [offset, size] = entry.pictures[0];
  bytes[offset + size / 5 * 2 + 7] ^= 4;
  write_plain(folder_ / entry.file, bytes);
  expect_one_problem({"train-00001.h5", "record 2", "'train7'"});
}

TEST_F(DamagedPack, ReportsEveryDamagedShard) {
  for (const std::string file : {"train-00000.h5", "test-00000.h5"}) {
    const auto bytes = read_plain(folder_ / file);
    write_plain(folder_ / file, bytes.substr(0, bytes.size() / 2));
  }
  fs::remove(folder_ / "dev-00000.h5");
  const auto problems = verify_pack(folder_);
  ASSERT_EQ(problems.size(), 3U);
  EXPECT_NE(problems[0].find("train-00000.h5"), std::string::npos);
  EXPECT_NE(problems[1].find("dev-00000.h5"), std::string::npos);
  EXPECT_NE(problems[2].find("test-00000.h5"), std::string::npos);
}

TEST_F(DamagedPack, RefusesShardsInEachOthersPlace) {
  const auto first = read_plain(folder_ / "train-00000.h5");
  write_plain(folder_ / "train-00000.h5", read_plain(folder_ / "train-00001.h5"));
  write_plain(folder_ / "train-00001.h5", first);
  EXPECT_EQ(verify_pack(folder_).size(), 2U);
  EXPECT_FALSE(read_all().empty());
}

TEST_F(DamagedPack, RefusesAManifestWhoseShardsDoNotMakeUpTheSplit) {
  auto manifest = read_manifest(folder_);
  manifest.shards[0].pop_back();
  write_plain(folder_ / "manifest.json", manifest_text(manifest));
  expect_one_problem({"the train shards hold 10 samples, the manifest counts 12"});
}

TEST_F(DamagedPack, RefusesManifestsThatReadersCannotDivideBy) {
  auto manifest = read_manifest(folder_);
  manifest.samples_per_shard = 0;
  write_plain(folder_ / "manifest.json", manifest_text(manifest));
  expect_one_problem({"samples per shard"});
  manifest.samples_per_shard = 5;
  manifest.info.image_stream_of = {0, 2};
  write_plain(folder_ / "manifest.json", manifest_text(manifest));
  expect_one_problem({"manifest.json"});
}

TEST_F(DamagedPack, IsOneProblemWithoutManifestOrFolder) {
  fs::remove(folder_ / "manifest.json");
  expect_one_problem({"manifest.json"});
  fs::remove_all(folder_);
  expect_one_problem({"manifest.json"});
}

TEST_F(DamagedPack, IsNoticedWhenTheManifestChangesAfterItWasRead) {
  const auto info = read_packed_info(folder_);
  auto manifest = read_manifest(folder_);
  manifest.quarantined[0].push_back("x: gone");
  write_plain(folder_ / "manifest.json", manifest_text(manifest));
  EXPECT_THROW(PackedSplit(info, Split::train, true), Error);
}

}  // namespace
}  // namespace mmkd
