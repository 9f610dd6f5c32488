#include "mmkd/stages/stage.h"

#include <gtest/gtest.h>

#include <fstream>
#include <functional>
#include <set>

#include "mmkd/base/error.h"
#include "mmkd/base/files.h"
#include "mmkd/base/hash.h"
#include "mmkd/base/log.h"
#include "mmkd/base/rng.h"
#include "tests/support/flips.h"
#include "tests/support/temp_folder.h"

namespace mmkd {
namespace {

void write_plain(const fs::path& path, const std::string& bytes) { std::ofstream(path, std::ios::binary) << bytes; }

StageInputs teacher_inputs() {
  return {.stage = "teacher",
          .version = 1,
          .config = {{"lr", 0.1}, {"epochs", 3}},
          .parents = {{"pack", "abc"}},
          .external = {{"weights", "123"}}};
}

/// A stage with one file of the given text.
StageArtifact build(const StageStore& store, const StageInputs& inputs, const std::string& text,
                    const std::vector<StageArtifact>& parents = {}) {
  return store.build(inputs, parents, [&](const fs::path& folder) { write_plain(folder / "model.bin", text); });
}

TEST(StageInputs, KeyIsTheSha256OfTheCanonicalJson) {
  const auto inputs = teacher_inputs();
  // Keys of JSON objects are sorted, so that the order of filling them in does not count.
  EXPECT_EQ(inputs.key(), sha256_hex(R"({"config":{"epochs":3,"lr":0.1},"external":{"weights":"123"},)"
                                     R"("parents":{"pack":"abc"},"stage":"teacher","version":1})"));
}

TEST(StageInputs, KeyChangesWithEveryInput) {
  std::set<std::string> keys{teacher_inputs().key()};
  const auto add = [&](auto&& change) {
    auto inputs = teacher_inputs();
    change(inputs);
    EXPECT_TRUE(keys.insert(inputs.key()).second) << inputs.to_json();
  };
  add([](StageInputs& i) { i.stage = "student"; });
  add([](StageInputs& i) { i.version = 2; });
  add([](StageInputs& i) { i.config["lr"] = 0.2; });
  add([](StageInputs& i) { i.config["more"] = nullptr; });
  add([](StageInputs& i) { i.parents["pack"] = "abd"; });
  add([](StageInputs& i) { i.parents.clear(); });
  add([](StageInputs& i) { i.external["weights"] = "124"; });
  add([](StageInputs& i) { i.external["vocabulary"] = "123"; });
}

TEST(StageStore, RemovesWhatKilledBuildersLeftLongAgo) {
  const test::TempFolder root;
  const StageStore store(root.path());
  const auto inputs = teacher_inputs();
  const auto old = root.path() / "teacher" / "0123.4711-1-0.tmp";
  const auto fresh = root.path() / "teacher" / "0123.4712-1-0.tmp";
  for (const auto& folder : {old, fresh}) {
    fs::create_directories(folder);
    write_plain(folder / "half", "x");
  }
  fs::last_write_time(old, fs::file_time_type::clock::now() - std::chrono::hours(25));
  build(store, inputs, "weights");
  EXPECT_FALSE(fs::exists(old));
  EXPECT_TRUE(fs::exists(fresh));
}

TEST(StageStore, ReusesWhatWasBuilt) {
  const test::TempFolder root;
  const StageStore store(root.path());
  const auto inputs = teacher_inputs();
  EXPECT_FALSE(store.state(inputs, {}, true).ready);
  EXPECT_EQ(store.state(inputs, {}, true).reason, "no artifact");
  EXPECT_THROW(store.open(inputs), Error);
  const auto built = build(store, inputs, "weights");
  EXPECT_EQ(built.folder, root.path() / "teacher" / inputs.key());
  EXPECT_EQ(built.content, sha256_hex("model.bin\n" + sha256_hex("weights") + "\n"));
  EXPECT_TRUE(store.state(inputs, {}, true).ready);
  EXPECT_EQ(store.state(inputs, {}, true).reason, built.folder.string());
  EXPECT_EQ(store.open(inputs).content, built.content);
  auto others = inputs;
  others.config["lr"] = 1;
  EXPECT_FALSE(store.state(others, {}, true).ready);
}

TEST(StageStore, KeepsTheArtifactOfAFasterBuilder) {
  const test::TempFolder root;
  const StageStore store(root.path());
  const auto inputs = teacher_inputs();
  const auto late = store.build(inputs, {}, [&](const fs::path& folder) {
    build(store, inputs, "first");
    write_plain(folder / "model.bin", "second");
  });
  EXPECT_EQ(read_file(late.folder / "model.bin"), "first");
  EXPECT_EQ(late.content, sha256_hex("model.bin\n" + sha256_hex("first") + "\n"));
}

TEST(StageStore, LeavesNothingWhenFillingFails) {
  const test::TempFolder root;
  const StageStore store(root.path());
  EXPECT_THROW(store.build(teacher_inputs(), {}, [](const fs::path&) { throw Error("disk full"); }), Error);
  EXPECT_FALSE(store.state(teacher_inputs(), {}, false).ready);
  EXPECT_TRUE(!fs::exists(root / "teacher") || fs::is_empty(root / "teacher"));
}

TEST(StageStore, DoesNotReuseDamagedFiles) {
  const test::TempFolder root;
  const StageStore store(root.path());
  const auto inputs = teacher_inputs();
  const auto built = build(store, inputs, "weights");
  const auto file = built.folder / "model.bin";
  const auto reason = [&](bool verify_bytes) { return store.state(inputs, {}, verify_bytes).reason; };

  write_plain(file, "Weights");
  EXPECT_TRUE(store.state(inputs, {}, false).ready) << "sizes alone cannot tell";
  EXPECT_EQ(reason(true), "file is damaged: model.bin");
  write_plain(file, "weight");
  EXPECT_EQ(reason(false), "file has another size: model.bin");
  fs::remove(file);
  EXPECT_EQ(reason(false), "file missing: model.bin");

  EXPECT_EQ(build(store, inputs, "weights").content, built.content) << "a damaged artifact is replaced";
  EXPECT_TRUE(store.state(inputs, {}, true).ready);
}

TEST(StageStore, DoesNotReuseADamagedStageFile) {
  const test::TempFolder root;
  const StageStore store(root.path());
  const auto inputs = teacher_inputs();
  const auto built = build(store, inputs, "weights");
  const auto file = built.folder / "stage.json";
  const auto sound = nlohmann::json::parse(read_file(file));
  const auto refused = [&](const std::string& text) {
    write_plain(file, text);
    const auto state = store.state(inputs, {}, true);
    EXPECT_FALSE(state.reason.empty());
    return !state.ready;
  };
  EXPECT_TRUE(refused(""));
  EXPECT_TRUE(refused("{}"));
  EXPECT_THROW(store.open(inputs), Error);
  EXPECT_TRUE(refused(sound.dump().substr(0, 40)));
  for (const auto& [key, value] : sound.items()) {
    if (key == "key" || key == "parents")
      continue;  // not read: the folder has the key's name, and there are no parents
    auto changed = sound;
    changed[key] = 3;
    EXPECT_TRUE(refused(changed.dump())) << key;
  }
  EXPECT_EQ(build(store, inputs, "weights").content, built.content);
  EXPECT_TRUE(store.state(inputs, {}, true).ready);
}

TEST(StageStore, BuildsAgainWhereTheStageFileIsGone) {
  const test::TempFolder root;
  const StageStore store(root.path());
  const auto built = build(store, teacher_inputs(), "weights");
  fs::remove(built.folder / "stage.json");
  EXPECT_EQ(store.state(teacher_inputs(), {}, false).reason, "no artifact");
  EXPECT_EQ(build(store, teacher_inputs(), "weights").content, built.content);
}

TEST(StageStore, DoesNotReuseAChildOfAParentWithOtherContent) {
  const test::TempFolder root;
  const StageStore store(root.path());
  const StageInputs pack{.stage = "pack", .version = 1, .config = {}, .parents = {}, .external = {}};
  const auto parent = build(store, pack, "data");
  auto inputs = teacher_inputs();
  inputs.parents["pack"] = pack.key();
  build(store, inputs, "weights", {parent});
  EXPECT_TRUE(store.state(inputs, {parent}, true).ready);

  fs::remove_all(parent.folder);
  const auto again = build(store, pack, "other data");
  EXPECT_EQ(again.key, parent.key);
  const auto state = store.state(inputs, {again}, true);
  EXPECT_FALSE(state.ready);
  EXPECT_EQ(state.reason, "parent content changed: pack");
  build(store, inputs, "weights", {again});
  EXPECT_TRUE(store.state(inputs, {again}, true).ready);
}

/// The memo in a folder, its entries changed as if it had been written so.
void change_memo(const fs::path& root, const std::function<void(nlohmann::json& entry)>& change) {
  auto memo = nlohmann::json::parse(read_file(root / "digests.json"));
  ASSERT_FALSE(memo.at("entries").empty());
  for (auto& entry : memo.at("entries")) change(entry);
  memo["checksum"] = sha256_hex(memo.at("entries").dump());
  write_plain(root / "digests.json", memo.dump());
}

TEST(DigestMemo, RemembersDigests) {
  const test::TempFolder root;
  const auto file = root / "image.png";
  write_plain(file, "pixels");
  {
    DigestMemo memo(root.path());
    EXPECT_EQ(memo.file(file), sha256_hex("pixels"));
  }
  // Proof that it comes from the memo: what was remembered is changed by hand.
  change_memo(root.path(), [](auto& entry) { entry["sha256"] = "remembered"; });
  EXPECT_EQ(DigestMemo(root.path()).file(file), "remembered");
}

TEST(DigestMemo, DigestsManyFilesAtOnce) {
  const test::TempFolder root;
  std::vector<fs::path> paths;
  for (int i = 0; i < 20; ++i) {
    paths.push_back(root / std::to_string(i));
    write_plain(paths.back(), "file " + std::to_string(i));
  }
  paths.push_back(root / "missing");
  paths.push_back(root.path());  // a folder
  for (const std::int64_t threads : {0, 1, 3, 100}) {
    const test::TempFolder store;
    { DigestMemo(store.path()).file(paths[7]); }
    for (int again = 0; again < 2; ++again) {
      const auto digests = DigestMemo(store.path()).files(paths, threads);
      ASSERT_EQ(digests.size(), paths.size());
      for (std::size_t i = 0; i < 20; ++i) EXPECT_EQ(digests[i], sha256_hex("file " + std::to_string(i)));
      EXPECT_EQ(digests[20], "");
      EXPECT_EQ(digests[21], "");
    }
    // Proof that all of them are remembered: the files need not be read again.
    change_memo(store.path(), [](auto& entry) { entry["sha256"] = "remembered"; });
    const auto remembered = DigestMemo(store.path()).files(paths, threads);
    EXPECT_EQ(std::count(remembered.begin(), remembered.end(), "remembered"), 20);
  }
}

TEST(DigestMemo, NoticesAChangedFile) {
  const test::TempFolder root;
  const auto file = root / "image.png";
  write_plain(file, "pixels");
  const auto time = fs::last_write_time(file);
  DigestMemo memo(root.path());
  EXPECT_EQ(memo.file(file), sha256_hex("pixels"));

  write_plain(file, "PIXELS");  // the same size
  fs::last_write_time(file, time + std::chrono::seconds(2));
  EXPECT_EQ(memo.file(file), sha256_hex("PIXELS"));
  write_plain(file, "more pixels");  // the same time
  fs::last_write_time(file, time + std::chrono::seconds(2));
  EXPECT_EQ(memo.file(file), sha256_hex("more pixels"));
  write_plain(root / "new.png", "MORE PIXELS");  // size and time the same, but another file
  fs::rename(root / "new.png", file);
  fs::last_write_time(file, time + std::chrono::seconds(2));
  EXPECT_EQ(memo.file(file), sha256_hex("MORE PIXELS"));
  fs::remove(file);
  EXPECT_THROW(memo.file(file), Error);
}

TEST(DigestMemo, WorksWithADamagedMemo) {
  const test::TempFolder root;
  const auto file = root / "image.png";
  write_plain(file, "pixels");
  { DigestMemo(root.path()).file(file); }
  change_memo(root.path(), [](auto& entry) { entry.erase("sha256"); });
  const auto without_digest = read_file(root / "digests.json");
  for (const std::string& text : {std::string("{"), std::string("[1]"), std::string("{}"), without_digest}) {
    write_plain(root / "digests.json", text);
    EXPECT_EQ(DigestMemo(root.path()).file(file), sha256_hex("pixels")) << text;
  }
}

TEST(DigestMemo, DoesNotTakeADigestThatWasChangedByHandOrByAnOlderVersion) {
  const test::TempFolder root;
  const auto file = root / "image.png";
  write_plain(file, "pixels");
  { DigestMemo(root.path()).file(file); }
  auto memo = nlohmann::json::parse(read_file(root / "digests.json"));
  for (auto& entry : memo.at("entries")) entry["sha256"] = sha256_hex("others");
  for (const auto& text : {memo.dump(), memo.at("entries").dump()}) {  // the second is how it was written once
    write_plain(root / "digests.json", text);
    EXPECT_EQ(DigestMemo(root.path()).file(file), sha256_hex("pixels"));
    EXPECT_TRUE(nlohmann::json::parse(read_file(root / "digests.json")).contains("checksum")) << "it is written anew";
  }
}

TEST(DigestMemo, FlippedBytesNeverLeadToAWrongDigest) {
  const test::TempFolder root;
  const std::vector<std::pair<fs::path, std::string>> files{{root / "a.png", "pixels"},
                                                            {root / "b.png", "more pixels"}};
  {
    DigestMemo memo(root.path());
    for (const auto& [file, content] : files) {
      write_plain(file, content);
      memo.file(file);
    }
  }
  const auto memo_file = root / "digests.json";
  const auto sound = read_file(memo_file);
  KeyedRng rng(3, RngPurpose::perturb);
  log::configure(log::Level::error, "");  // every flip is a warning
  constexpr int kFewer = 6;               // each trial saves the memo, flushed to the disk
  for (std::uint64_t trial = 0; trial < test::flip_trials() / kFewer; ++trial) {
    auto bytes = sound;
    auto& byte = bytes[rng.below(bytes.size())];
    byte = static_cast<char>(static_cast<unsigned char>(byte) ^ (1 + rng.below(255)));
    write_plain(memo_file, bytes);
    DigestMemo memo(root.path());
    for (const auto& [file, content] : files) ASSERT_EQ(memo.file(file), sha256_hex(content)) << bytes;
  }
  log::configure(log::Level::info, "");
}

TEST(DigestMemo, RemembersOthersBesideAFileWhoseNameIsNoText) {
  const test::TempFolder root;
  const auto odd = root.path() / "\xff.png";
  write_plain(odd, "odd");
  write_plain(root / "image.png", "pixels");
  {
    DigestMemo memo(root.path());
    EXPECT_EQ(memo.file(odd), sha256_hex("odd"));
    EXPECT_EQ(memo.file(root / "image.png"), sha256_hex("pixels"));
  }
  DigestMemo memo(root.path());
  EXPECT_EQ(memo.file(odd), sha256_hex("odd"));
  EXPECT_EQ(memo.file(root / "image.png"), sha256_hex("pixels"));
}

}  // namespace
}  // namespace mmkd
