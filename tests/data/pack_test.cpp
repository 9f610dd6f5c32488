#include "mmkd/data/pack.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <span>
#include <thread>

#include "mmkd/base/error.h"
#include "mmkd/base/files.h"
#include "mmkd/base/hash.h"
#include "src/data/manifest.h"
#include "tests/data/small_set.h"
#include "tests/support/expect_contains.h"

namespace mmkd {
namespace {

using test::pack_alone;
using test::read_plain;
using test::Row;
using test::SmallSet;
using test::write_plain;

/// Every file of a folder with its bytes.
std::map<std::string, std::string> content(const fs::path& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file()) files[fs::relative(entry.path(), folder).string()] = read_plain(entry.path());
  }
  return files;
}

std::string complaint(const Config& config) {
  try {
    pack_alone(config);
    return "";
  } catch (const Error& e) {
    return e.what();
  }
}

TEST(Pack, StoresWhatPolicyAndTokenizerMakeOfEverySample) {
  const SmallSet set;
  const auto info = pack_alone(set.config);
  EXPECT_EQ(info.counts, (std::array<std::int64_t, 3>{12, 4, 3}));
  ASSERT_EQ(info.tasks.size(), 2U);
  EXPECT_EQ(info.tasks[0].classes, (std::vector<std::string>{"circle", "cross"}));
  EXPECT_EQ(info.tasks[1].classes, (std::vector<std::string>{"arm", "leg"}));
  ASSERT_EQ(info.image_streams.size(), 2U);
  ASSERT_EQ(info.token_streams.size(), 2U);
  EXPECT_EQ(info.image_stream_of, (std::array{0, 1}));

  const auto inputs = resolve_pack_inputs(set.config);
  const std::array<std::pair<Split, const std::vector<Row>*>, 3> splits{
      {{Split::train, &set.train}, {Split::dev, &set.dev}, {Split::test, &set.test}}};
  for (const auto& [split, rows] : splits) {
    const PackedSplit packed(info, split, true);
    ASSERT_EQ(packed.size(), static_cast<std::int64_t>(rows->size()));
    for (std::int64_t i = 0; i < packed.size(); ++i) {
      const auto& row = (*rows)[static_cast<std::size_t>(i)];
      const auto record = packed.get(i);
      EXPECT_EQ(record.id, row.id);
      EXPECT_EQ(record.sample_key, checksum64(row.id));
      EXPECT_EQ(std::vector<int>(record.labels.begin(), record.labels.end()),
                (std::vector<int>{row.shape == "cross" ? 1 : 0, row.site == "leg" ? 1 : 0}));
      const std::string encoded = read_plain(set.image(row));
      const auto image = decode_image(std::as_bytes(std::span(encoded)), row.id);
      for (std::size_t s = 0; s < 2; ++s) {
        EXPECT_TRUE(std::ranges::equal(record.pixels[s], apply_policy(image, inputs.policies[s]).rgb)) << row.id;
        const auto tokenizer = WordPieceTokenizer::from_file(inputs.tokenizers[s].file, inputs.tokenizers[s].settings);
        EXPECT_TRUE(std::ranges::equal(record.tokens[s], tokenizer.encode(row.text, set.config.data.max_length)));
        EXPECT_EQ(packed.length(i, static_cast<int>(s)), static_cast<std::int64_t>(record.tokens[s].size()));
      }
    }
    EXPECT_THROW(packed.get(packed.size()), Error);
    EXPECT_THROW(packed.get(-1), Error);
  }
  EXPECT_TRUE(verify_pack(info.folder).empty());
}

TEST(Pack, StoresEqualInputsOfTeacherAndStudentOnce) {
  SmallSet set;
  set.config.teacher = set.config.student;
  const auto info = pack_alone(set.config);
  EXPECT_EQ(info.image_streams.size(), 1U);
  EXPECT_EQ(info.token_streams.size(), 1U);
  EXPECT_EQ(info.image_stream_of, (std::array{0, 0}));
  EXPECT_EQ(info.token_stream_of, (std::array{0, 0}));
}

TEST(Pack, GivesTheSameBytesForEveryNumberOfThreads) {
  SmallSet set;
  std::map<std::string, std::string> first;
  for (const int threads : {1, 2, 4}) {
    set.config.data.num_workers = threads;
    set.config.artifacts.root = set.folder / ("artifacts" + std::to_string(threads));
    const auto files = content(pack_alone(set.config).folder);
    if (threads == 1) {
      first = files;
      EXPECT_EQ(files.size(), 7U) << "5 shards, manifest.json, stage.json";
    }
    EXPECT_TRUE(files == first) << threads << " threads";
  }
}

TEST(Pack, IsReusedUntilAnythingThatCountsChanges) {
  SmallSet set;
  const auto folder = pack_alone(set.config).folder;
  EXPECT_EQ(locate_pack(set.config), folder);
  const auto time = fs::last_write_time(folder / "manifest.json");
  EXPECT_EQ(pack_alone(set.config).folder, folder);
  EXPECT_EQ(fs::last_write_time(folder / "manifest.json"), time);
  EXPECT_FALSE(fs::exists(folder.string() + ".work")) << "the scratch folder is removed";

  set.config.data.batch_size = 3;
  set.config.training.seed = 9;
  EXPECT_EQ(locate_pack(set.config), folder) << "neither says what is packed";
  set.config.data.max_length = 8;
  EXPECT_THROW(locate_pack(set.config), UsageError);
  set.config.data.max_length = 9;
  write_plain(set.image(set.dev[0]), test::make_png(20, 999));
  EXPECT_THROW(locate_pack(set.config), UsageError);
  EXPECT_NE(pack_alone(set.config).folder, folder);
}

TEST(Pack, ReplacesADamagedArtifact) {
  const SmallSet set;
  const auto folder = pack_alone(set.config).folder;
  const auto sound = content(folder);
  auto bytes = sound.at("dev-00000.h5");
  bytes[bytes.size() / 2] ^= 1;
  write_plain(folder / "dev-00000.h5", bytes);
  EXPECT_EQ(pack_alone(set.config).folder, folder);
  EXPECT_TRUE(content(folder) == sound);
}

TEST(Pack, GoesOnWithTheWholeShardsOfABuildThatWasKilled) {
  SmallSet set;
  const auto folder = pack_alone(set.config).folder;
  set.config.artifacts.root = set.folder / "second";
  const auto inputs = pack_stage_inputs(set.config);
  const auto work =
      StageStore(set.config.artifacts.root).work_folder(inputs) / inputs.external.at("samples").substr(0, 16);
  write_plain(work / "train-00000.h5", read_plain(folder / "train-00000.h5"));
  const std::string torn = read_plain(folder / "train-00001.h5");
  write_plain(work / "train-00001.h5", torn.substr(0, torn.size() - 100));
  write_plain(work / "train-00002.h5.77.tmp", "torn");
  const fs::path kept = set.folder / "kept.h5";
  fs::create_hard_link(work / "train-00000.h5", kept);

  const auto second = pack_alone(set.config).folder;
  EXPECT_TRUE(content(second) == content(folder));
  EXPECT_TRUE(fs::equivalent(second / "train-00000.h5", kept)) << "the whole shard is the one that was there";
}

// ---------------------------------------------------------------- bad samples

struct Bad {
  std::string what;
  std::function<void(SmallSet&)> spoil;
  std::string sample, message;
};

std::vector<Bad> bad_sets() {
  return {
      {"truncated PNG",
       [](SmallSet& s) { write_plain(s.image(s.train[3]), read_plain(s.image(s.train[3])).substr(0, 200)); }, "train3",
       "train3.png"},
      {"missing image", [](SmallSet& s) { fs::remove(s.image(s.dev[1])); }, "dev1", "does not exist"},
      {"label that train lacks", [](SmallSet& s) { s.dev[2].shape = "square"; }, "dev2",
       "label 'square' never occurs in the train split (which has circle, cross)"},
      {"image bytes in two splits",
       [](SmallSet& s) { write_plain(s.image(s.test[0]), read_plain(s.image(s.train[0]))); }, "test0",
       "the same image bytes are in split train (sample 'train0')"},
      {"id in two splits", [](SmallSet& s) { s.dev[3].id = "train5"; }, "train5", "id is also in split train"},
      {"id twice in one split", [](SmallSet& s) { s.train[7].id = "train6"; }, "train6",
       "the id occurs twice (first in "},
  };
}

TEST(BadSamples, AreRefusedByName) {
  for (const auto& bad : bad_sets()) {
    SCOPED_TRACE(bad.what);
    SmallSet set;
    bad.spoil(set);
    set.write_tables();
    const auto text = complaint(set.config);
    expect_contains(text, "1 bad sample:");
    expect_contains(text, "sample '" + bad.sample + "'");
    expect_contains(text, bad.message);
  }
}

TEST(BadSamples, AreListedAndLeftOutUnderQuarantine) {
  SmallSet set;
  for (const auto& bad : bad_sets()) bad.spoil(set);
  set.write_tables();
  set.config.data.on_bad_sample = OnBadSample::quarantine;
  const auto info = pack_alone(set.config);
  EXPECT_EQ(info.counts, (std::array<std::int64_t, 3>{10, 1, 2}));
  const auto quarantined = read_manifest(info.folder).quarantined;
  EXPECT_EQ(quarantined[0].size(), 2U);
  EXPECT_EQ(quarantined[1].size(), 3U);
  EXPECT_EQ(quarantined[2].size(), 1U);
  std::string all;
  for (const auto& split : quarantined) {
    for (const auto& line : split) all += line + "\n";
  }
  for (const auto& bad : bad_sets()) {
    expect_contains(all, bad.sample + ": ");
    expect_contains(all, bad.message);
  }
  const PackedSplit train(info, Split::train, true);
  for (std::int64_t i = 0; i < train.size(); ++i) EXPECT_NE(train.get(i).id, "train3");
  EXPECT_TRUE(verify_pack(info.folder).empty());
  EXPECT_EQ(pack_alone(set.config).folder, info.folder) << "reused";

  set.config.data.on_bad_sample = OnBadSample::error;
  EXPECT_FALSE(complaint(set.config).empty()) << "what was packed without them does not hide them";
}

TEST(BadSamples, FoundOnlyWhileDecodingAreNotHiddenByAnEarlierQuarantine) {
  SmallSet set;
  bad_sets()[0].spoil(set);
  set.config.data.on_bad_sample = OnBadSample::quarantine;
  pack_alone(set.config);
  set.config.data.on_bad_sample = OnBadSample::error;
  expect_contains(complaint(set.config), "sample 'train3'");
}

TEST(BadSamples, MayNotLeaveTheTrainOrDevSplitEmpty) {
  SmallSet set;
  for (const auto& row : set.dev) fs::remove(set.image(row));
  set.config.data.on_bad_sample = OnBadSample::quarantine;
  expect_contains(complaint(set.config), "the dev split has no usable samples");
}

// Enough reads for the pages of the shards to be let go several times, while other threads hold what they got.
TEST(PackedSplit, StaysReadableWhilePagesAreLetGo) {
  const SmallSet set;
  const PackedSplit train(pack_alone(set.config), Split::train, true);
  std::vector<std::vector<std::uint8_t>> expected;
  for (std::int64_t i = 0; i < train.size(); ++i) {
    const auto pixels = train.get(i).pixels[0];
    expected.emplace_back(pixels.begin(), pixels.end());
  }
  constexpr std::int64_t kReads = 40'000;
  std::atomic<std::int64_t> wrong = 0;
  const auto read = [&](std::int64_t first) {
    for (std::int64_t k = 0; k < kReads; ++k) {
      const auto held = train.get((first + k) % train.size()).pixels[0];
      const auto other = train.get((first + 5 * k) % train.size()).pixels[0];
      wrong += std::ranges::equal(held, expected[static_cast<std::size_t>((first + k) % train.size())]) ? 0 : 1;
      wrong += std::ranges::equal(other, expected[static_cast<std::size_t>((first + 5 * k) % train.size())]) ? 0 : 1;
    }
  };
  std::thread beside(read, 0);
  read(7);
  beside.join();
  EXPECT_EQ(wrong, 0);
}

TEST(DescribePack, TellsCountsClassesStreamsAndTokenLengths) {
  const SmallSet set;
  const auto text = describe_pack(pack_alone(set.config).folder);
  expect_contains(text, "train        12 samples     3 shards");
  expect_contains(text, "task 'shape': 2 classes: circle, cross");
  expect_contains(text, "images 0: 16x16 RGB, for teacher");
  expect_contains(text, "images 1: 8x8 RGB, for student");
  // "cross" is 3 tokens with [CLS] and [SEP], "Circle on the arm" 6; seven more words are cut at 9.
  expect_contains(text, "      3 to     4 tokens:        6 texts");
  expect_contains(text, "      5 to     8 tokens:        6 texts");
  expect_contains(text, "      9 to    16 tokens:        7 texts");
}

TEST(DemoData, IsPackableAndLeftAloneOnceItIsThere) {
  const test::TempFolder folder;
  const fs::path root = folder / "demo";
  write_demo_data(root);
  const auto table = read_plain(root / "train.jsonl");
  EXPECT_EQ(std::count(table.begin(), table.end(), '\n'), 600);
  DataConfig data;
  data.type = DatasetType::table;
  data.root = root;
  data.table = {.train = "train.jsonl", .dev = "dev.jsonl", .test = "test.jsonl"};
  data.tasks = {{"shape", "shape"}, {"site", "site"}};
  for (const Split split : kSplits) {
    const auto samples = read_split(data, split);
    EXPECT_EQ(samples.size(), split == Split::train ? 600U : 150U);
    const std::string encoded = read_plain(samples.front().image);
    const auto image = decode_image(std::as_bytes(std::span(encoded)), samples.front().id);
    EXPECT_EQ(image.height, 64);
    EXPECT_EQ(image.width, 64);
    for (const auto& sample : samples) {
      EXPECT_NE(sample.text.find(sample.labels[1]), std::string::npos) << "the text names the site";
      EXPECT_EQ(sample.text.find(sample.labels[0]), std::string::npos) << "and not the shape";
    }
  }
  write_plain(root / "train.jsonl", "mine");
  write_demo_data(root);
  EXPECT_EQ(read_plain(root / "train.jsonl"), "mine");
}

}  // namespace
}  // namespace mmkd
