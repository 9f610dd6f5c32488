#include <gtest/gtest.h>

#include <functional>
#include <set>
#include <string>
#include <vector>

#include "mmkd/base/error.h"
#include "mmkd/base/files.h"
#include "mmkd/data/pack.h"
#include "src/data/manifest.h"
#include "tests/data/small_set.h"
#include "tests/support/flips.h"

namespace mmkd {
namespace {

using test::SmallSet;

/// A packed set whose records are damaged one by one: 12 train, 4 dev and 3 test samples in shards of 5.
class DamagedRecords : public ::testing::Test {
 protected:
  static constexpr std::int64_t kPerShard = 5;

  /// A byte of one of the sample's pictures, the second stream's for odd samples.
  void damage(Split split, std::int64_t sample) const {
    const auto entry = read_manifest(info_.folder)
                           .shards[static_cast<std::size_t>(split)]
                           .at(static_cast<std::size_t>(sample / kPerShard));
    const auto [offset, size] = entry.pictures[static_cast<std::size_t>(sample % 2)];
    const auto record = static_cast<std::uint64_t>(sample % kPerShard);
    test::flip(info_.folder / entry.file, offset + size / static_cast<std::uint64_t>(entry.count) * record + 11, 4);
  }

  std::vector<std::string> ids(const PackedInfo& info, Split split) const {
    const PackedSplit samples(info, split, true);
    std::vector<std::string> found;
    for (std::int64_t i = 0; i < samples.size(); ++i) {
      found.emplace_back(samples.get(i).id);
      EXPECT_EQ(samples.length(i, 0), static_cast<std::int64_t>(samples.get(i).tokens[0].size()));
    }
    return found;
  }

  /// "train0", "train1", … but those left out.
  static std::vector<std::string> all_but(const std::string& split, int count, const std::set<int>& left_out) {
    std::vector<std::string> ids;
    for (int i = 0; i < count; ++i) {
      if (!left_out.contains(i)) ids.push_back(split + std::to_string(i));
    }
    return ids;
  }

  PackedInfo quarantined() const { return without_damaged_records(info_, test::alone()); }

  static std::string complaint(const std::function<void()>& call) {
    try {
      call();
      return "";
    } catch (const Error& e) {
      return e.what();
    }
  }

  SmallSet set_;
  PackedInfo info_ = test::pack_alone(set_.config);
};

TEST_F(DamagedRecords, NoneLeaveTheSetAsItIs) {
  EXPECT_TRUE(damaged_records(info_).empty());
  const auto same = quarantined();
  EXPECT_TRUE(same.left_out.empty());
  EXPECT_EQ(same.counts, info_.counts);
  EXPECT_EQ(same.input_keys, info_.input_keys);
  EXPECT_EQ(same.input_contents, info_.input_contents);
}

TEST_F(DamagedRecords, AreNamedWithShardAndId) {
  damage(Split::train, 7);
  damage(Split::test, 2);
  damage(Split::train, 0);
  const auto found = damaged_records(info_);
  ASSERT_EQ(found.size(), 3U);
  EXPECT_EQ(found[0].id, "train0");
  EXPECT_EQ(found[1].id, "train7");
  EXPECT_EQ(found[1].split, Split::train);
  EXPECT_EQ(found[1].shard, "train-00001.h5");
  EXPECT_EQ(found[1].record, 2);
  EXPECT_EQ(found[1].sample, 7);
  EXPECT_EQ(found[2].id, "test2");
}

TEST_F(DamagedRecords, AreFoundInPartsAsTheyAreAlone) {
  for (const std::int64_t sample : {1, 6, 11}) damage(Split::train, sample);
  damage(Split::dev, 3);
  for (const int parts : {2, 3, 8}) {
    std::multiset<std::string> found;
    for (int part = 0; part < parts; ++part) {
      for (const auto& record : damaged_records(info_, part, parts)) found.insert(record.id);
    }
    EXPECT_EQ(found, (std::multiset<std::string>{"dev3", "train1", "train11", "train6"})) << parts;
  }
}

TEST_F(DamagedRecords, AreLeftOutOfTheirSplitsAndTheOthersKeepTheirOrder) {
  for (const std::int64_t sample : {0, 4, 5, 11}) damage(Split::train, sample);  // ends of shards and of the split
  damage(Split::dev, 1);
  const auto kept = quarantined();
  EXPECT_EQ(kept.counts, (std::array<std::int64_t, 3>{8, 3, 3}));
  EXPECT_EQ(ids(kept, Split::train), all_but("train", 12, {0, 4, 5, 11}));
  EXPECT_EQ(ids(kept, Split::dev), all_but("dev", 4, {1}));
  EXPECT_EQ(ids(kept, Split::test), all_but("test", 3, {}));
  const PackedSplit train(kept, Split::train, true);
  EXPECT_EQ(train.info().counts, kept.counts);
  EXPECT_THROW(train.get(8), Error);
  EXPECT_THROW(ids(info_, Split::train), Error) << "without the quarantine everything is as before";
}

TEST_F(DamagedRecords, AShardOfNothingElseIsPassedOver) {
  for (std::int64_t sample = kPerShard; sample < 2 * kPerShard; ++sample) damage(Split::train, sample);
  EXPECT_EQ(ids(quarantined(), Split::train), all_but("train", 12, {5, 6, 7, 8, 9}));
}

TEST_F(DamagedRecords, GiveKeysAndContentsOfTheirOwn) {
  std::set<std::string> seen;
  const auto add = [&](const PackedInfo& info) {
    for (const auto* digests : {&info.input_keys, &info.input_contents}) {
      for (const auto& digest : *digests) EXPECT_TRUE(seen.insert(digest).second);
    }
  };
  add(info_);
  damage(Split::train, 3);
  const auto one = quarantined();
  add(one);
  EXPECT_EQ(quarantined().input_keys, one.input_keys) << "the same again";
  damage(Split::dev, 0);
  add(quarantined());
  damage(Split::train, 3);  // whole again
  add(quarantined());
  damage(Split::dev, 0);
  EXPECT_EQ(quarantined().input_keys, info_.input_keys);
}

TEST_F(DamagedRecords, CountInThePlanOfAJobWhereTheyAreLeftOut) {
  auto config = set_.config;
  damage(Split::train, 3);
  EXPECT_EQ(job_input_keys(config), info_.input_keys);
  config.data.on_bad_record = OnBadRecord::quarantine;
  EXPECT_EQ(job_input_keys(config), quarantined().input_keys);
  config.data.packed = info_.folder;
  EXPECT_EQ(job_input_keys(config), quarantined().input_keys);
  config.data.packed.clear();
  fs::remove_all(info_.folder);
  EXPECT_EQ(job_input_keys(config), info_.input_keys) << "not packed: nothing is known to be damaged";
}

TEST_F(DamagedRecords, MayNotEmptyASplit) {
  for (std::int64_t sample = 0; sample < 3; ++sample) damage(Split::test, sample);
  const auto text = complaint([&] { quarantined(); });
  for (const auto& part : {info_.folder.string(), std::string("every record of the test split is damaged")})
    EXPECT_NE(text.find(part), std::string::npos) << text;
}

TEST_F(DamagedRecords, DoNotCoverDamageOfTablesOrOfTheManifest) {
  const auto entry = read_manifest(info_.folder).shards[0][1];
  test::flip(info_.folder / entry.file, entry.pictures[0][0] - 1, 1);
  EXPECT_NE(complaint([&] { quarantined(); }).find("checksum of its tables"), std::string::npos);
  test::flip(info_.folder / entry.file, entry.pictures[0][0] - 1, 1);
  test::flip(info_.folder / "manifest.json", 40, 1);
  EXPECT_NE(complaint([&] { quarantined(); }).find("manifest.json"), std::string::npos);
}

}  // namespace
}  // namespace mmkd
