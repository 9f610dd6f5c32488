#include <gtest/gtest.h>
#include <sys/mount.h>

#include <fstream>

#include "tests/support/small_job.h"

// What people get wrong: each mistake is one clear message and a non-zero exit of every rank, and leaves nothing that
// a later run could take for finished.
namespace mmkd::test {
namespace {

namespace fs = std::filesystem;

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const auto at = text.find(from);
  if (at == std::string::npos) throw std::runtime_error("'" + from + "' is not in the text to change");
  return text.replace(at, from.size(), to);
}

/// The program ended by itself, not with 0 and not by a signal, and said exactly one error.
void expect_one_error(const ProcessResult& result, int exit_code, const std::vector<std::string>& parts) {
  EXPECT_FALSE(result.timed_out) << result.all();
  EXPECT_EQ(result.exit_code, exit_code) << result.all();
  EXPECT_EQ(own_errors(result.err).size(), 1U) << result.all();
  for (const auto& part : parts) EXPECT_TRUE(contains(result.err, part)) << result.all();
}

void expect_success(const ProcessResult& result) { ASSERT_EQ(result.exit_code, 0) << result.all(); }

void flip_byte(const fs::path& file, std::uint64_t at) {
  auto* stream = std::fopen(file.c_str(), "r+b");
  ASSERT_NE(stream, nullptr);
  std::fseek(stream, static_cast<long>(at), SEEK_SET);
  const int byte = std::fgetc(stream);
  std::fseek(stream, static_cast<long>(at), SEEK_SET);
  std::fputc(byte ^ 0x10, stream);
  std::fclose(stream);
}

// ---------------------------------------------------------------- configuration

TEST(Configuration, AMisspeltKeyIsNamedWithItsPlaceAndTheKeyThatWasMeant) {
  const SmallJob job(20, 5, 5);
  job.write("job.yaml", replaced(job.read("job.yaml"), "student_epochs", "student_epoch"));
  for (const auto& result : {job.pack(), job.ddp(2), run({MMKD_TOOL, "config", "show", "job.yaml"}, job.options())})
    expect_one_error(result, 2, {"job.yaml:24:31", "training.student_epoch", "student_epochs"});
  EXPECT_FALSE(fs::exists(job / "artifacts"));
  EXPECT_FALSE(fs::exists(job / "logs"));
}

TEST(Configuration, AllErrorsAreReportedAtOnceByOneRank) {
  const SmallJob job(20, 5, 5);
  auto text = replaced(job.read("job.yaml"), "batch_size: 16", "batch_size: many");
  text = replaced(text, "type: combined", "type: combind");
  job.write("job.yaml", replaced(text, "fusion_heads: 2", "fusion_heads: 5"));
  const auto result = job.ddp(2);
  expect_one_error(result, 2, {"data.batch_size", "found \"many\"", "loss.type", "combined", "teacher.fusion_heads"});
}

TEST(Configuration, AWrongChoiceListsTheRightOnes) {
  const SmallJob job(20, 5, 5);
  expect_one_error(job.ddp(2, {"training.precision=fp8"}), 2, {"training.precision", "fp8", "fp32", "bf16"});
}

TEST(Configuration, AnUnknownKeyOfTheCommandLineIsNamed) {
  const SmallJob job(20, 5, 5);
  expect_one_error(job.ddp(2, {"trainin.seed=1"}), 2, {"--set", "trainin", "training"});
}

TEST(Configuration, AMissingFileIsOneError) {
  const SmallJob job(20, 5, 5);
  fs::remove(job / "job.yaml");
  expect_one_error(job.pack(), 2, {"job.yaml"});
  expect_one_error(job.ddp(2), 2, {"job.yaml"});
}

// ---------------------------------------------------------------- data

TEST(Data, BadRowsAreOneErrorThatListsThemAll) {
  const SmallJob job(40, 8, 8);
  auto train = job.rows("train");
  const auto gone = train[3].at("image").get<std::string>();
  fs::remove(job / ("data/" + gone));
  train[7]["id"] = train[2].at("id");
  job.write_rows("train", train);
  expect_one_error(job.pack(), 1,
                   {"2 bad samples", train[3].at("id").get<std::string>(), gone, "does not exist", "train.jsonl:8",
                    train[2].at("id").get<std::string>(), "occurs twice", "quarantine"});
  EXPECT_EQ(job.unfinished(), std::vector<std::string>{});
  // The ranks look at the data too, to find the shards.
  expect_one_error(job.ddp(2), 1, {"2 bad samples", gone});
}

TEST(Data, ALabelThatTrainLacksIsAnErrorThatListsThoseOfTrain) {
  const SmallJob job(40, 8, 8);
  auto dev = job.rows("dev");
  dev[5]["shape"] = "hexagon";
  job.write_rows("dev", dev);
  expect_one_error(job.pack(), 1, {"hexagon", "dev.jsonl:6", "never occurs in the train split", "circle, cross"});
  EXPECT_EQ(job.unfinished(), std::vector<std::string>{});
}

TEST(Data, ATruncatedPictureEndsPackingAndLeavesNoArtifact) {
  const SmallJob job(40, 8, 8);
  const auto row = job.rows("train")[9];
  const fs::path picture = job / ("data/" + row.at("image").get<std::string>());
  fs::resize_file(picture, fs::file_size(picture) / 2);
  for (const int ranks : {0, 2}) {
    expect_one_error(job.pack({}, ranks), 1,
                     {"1 bad sample", row.at("id").get<std::string>(), picture.filename().string(), "train.jsonl:10"});
    for (const auto& left : job.unfinished())
      EXPECT_EQ(fs::path(left).extension(), ".work") << "only finished shards may wait for the next try";
  }
  expect_one_error(job.ddp(2), 2, {"not packed yet", "mmkd-pack"});

  // Left out and named, the rest goes through.
  const auto packed = job.pack({"data.on_bad_sample=quarantine"});
  expect_success(packed);
  EXPECT_TRUE(contains(packed.err, row.at("id").get<std::string>()));
  const auto manifest = nlohmann::json::parse(all_files(job.artifact("pack")).at("manifest.json"));
  EXPECT_EQ(manifest.at("counts").at("train"), 39);
  EXPECT_TRUE(contains(manifest.at("quarantined").dump(), row.at("id").get<std::string>()));
  expect_success(job.ddp(2, {"data.on_bad_sample=quarantine"}));
}

TEST(Data, AMendedPictureIsPackedAfterTheFailure) {
  const SmallJob job(40, 8, 8);
  const fs::path picture = job / ("data/" + job.rows("train")[9].at("image").get<std::string>());
  const auto whole = job.read("data/" + job.rows("train")[9].at("image").get<std::string>());
  fs::resize_file(picture, 100);
  EXPECT_EQ(job.pack().exit_code, 1);
  job.write("data/" + job.rows("train")[9].at("image").get<std::string>(), whole);
  expect_success(job.pack());
  expect_success(run({MMKD_PACK, "verify", job.artifact("pack").string()}));
}

TEST(Data, AFlippedByteOfAShardIsNoticedByVerifyAndByTraining) {
  const SmallJob job;
  expect_success(job.pack());
  const fs::path folder = job.artifact("pack");
  const auto manifest = nlohmann::json::parse(all_files(folder).at("manifest.json"));
  const auto shard = manifest.at("shards").at("train").at(1);
  const fs::path file = folder / shard.at("file").get<std::string>();
  const auto picture = shard.at("pictures").at(0).at(0).get<std::uint64_t>();

  flip_byte(file, picture + 5000);  // in a picture: when it is read
  const auto verified = run({MMKD_PACK, "verify", folder.string()});
  EXPECT_EQ(verified.exit_code, 1) << verified.all();
  EXPECT_TRUE(contains(verified.err, file.filename().string()));
  const auto trained = job.ddp(2);
  EXPECT_FALSE(trained.timed_out);
  EXPECT_NE(trained.exit_code, 0);
  EXPECT_EQ(own_errors(trained.err).size(), 1U) << trained.all();
  EXPECT_TRUE(contains(trained.err, file.filename().string())) << trained.all();
  for (const auto& left : job.unfinished()) EXPECT_EQ(fs::path(left).extension(), ".work") << left;

  flip_byte(file, picture + 5000);
  flip_byte(file, 200);  // in the tables: before anything is trained
  EXPECT_EQ(run({MMKD_PACK, "verify", folder.string()}).exit_code, 1);
  expect_one_error(job.ddp(2), 1, {file.filename().string()});

  // Packing looks at the artifact whole and builds it again.
  expect_success(job.pack());
  expect_success(job.ddp(2));
}

TEST(Data, ADamagedRecordIsLeftOutNamedAndNeverMixedUpUnderQuarantine) {
  const SmallJob job;
  expect_success(job.pack());
  expect_success(job.ddp(2));
  const fs::path folder = job.artifact("pack");
  const auto manifest = nlohmann::json::parse(all_files(folder).at("manifest.json"));
  const auto shard = manifest.at("shards").at("train").at(1);
  const fs::path file = folder / shard.at("file").get<std::string>();
  constexpr std::uint64_t kPicture = std::uint64_t{32} * 32 * 3;
  const auto second = shard.at("pictures").at(0).at(0).get<std::uint64_t>() + kPicture;
  const auto id = job.rows("train")[33].at("id").get<std::string>();  // shards of 32

  flip_byte(file, second + 100);
  const auto refused = job.ddp(2, {"training.seed=1"});  // what is finished already reads no records
  EXPECT_NE(refused.exit_code, 0);
  EXPECT_TRUE(contains(refused.err, id)) << refused.all();
  const auto left_out = job.ddp(2, {"data.on_bad_record=quarantine"});
  expect_success(left_out);
  EXPECT_TRUE(contains(left_out.err, "record 1 of " + file.filename().string() + " (sample '" + id + "') is damaged"));
  EXPECT_FALSE(contains(left_out.err, "reused")) << left_out.all();
  const auto results = nlohmann::json::parse(job.read("logs/run/results.json"));
  EXPECT_EQ(results.at("data").at("quarantined").dump(), R"({"train":[")" + id + "\"]}");
  EXPECT_EQ(results.at("data").at("train"), 89);
  const auto again = job.ddp(2, {"data.on_bad_record=quarantine"});
  expect_success(again);
  EXPECT_FALSE(contains(again.err, "building")) << again.all();

  flip_byte(file, second + 100);  // mended: what was made from the whole set counts again
  const auto mended = job.ddp(2, {"data.on_bad_record=quarantine"});
  expect_success(mended);
  EXPECT_FALSE(contains(mended.err, "building")) << mended.all();
  EXPECT_FALSE(nlohmann::json::parse(job.read("logs/run/results.json")).at("data").contains("quarantined"));
}

TEST(Data, ShardsThatAreNotThereAreOneErrorThatSaysHowToMakeThem) {
  const SmallJob job(20, 5, 5);
  expect_one_error(job.ddp(2), 2, {"not packed yet", "mmkd-pack job.yaml"});
  expect_one_error(job.ddp(2, {"data.packed=nowhere"}), 1, {"nowhere"});
}

TEST(Data, ABatchSmallerThanTheRanksIsRefusedBeforeTraining) {
  const SmallJob job(20, 5, 5);
  expect_success(job.pack());
  expect_one_error(job.ddp(2, {"data.batch_size=1"}), 2, {"data.batch_size is 1", "ranks (2)"});
  EXPECT_FALSE(fs::exists(job / "artifacts/teacher"));
}

// ---------------------------------------------------------------- weights and tokenizer

TEST(Weights, ATruncatedTowerIsOneErrorBeforeTraining) {
  const SmallJob job(40, 8, 8);
  expect_success(job.pack());
  expect_success(job.ddp(2));
  const std::string tower = (job / "logs/run/student_hf/vision").string();
  const std::vector<std::string> sets{"student.vision=" + tower, "student.fusion_layers=2"};
  expect_success(job.pack(sets));
  expect_success(job.ddp(2, sets));  // whole, it is taken

  const fs::path file = fs::path(tower) / "model.safetensors";
  const auto students = all_files(job / "artifacts/student").size();
  fs::resize_file(file, fs::file_size(file) - 100);
  expect_one_error(job.ddp(2, sets), 1, {"model.safetensors"});
  fs::resize_file(file, 4);
  expect_one_error(job.ddp(2, sets), 1, {"model.safetensors"});
  EXPECT_EQ(all_files(job / "artifacts/student").size(), students);
}

TEST(Weights, AWholeModelOfAnotherSizeIsOneErrorThatNamesTheTensor) {
  const SmallJob job(40, 8, 8);
  expect_success(job.pack());
  expect_success(job.ddp(2));
  const std::string weights = (job / "logs/run/teacher.safetensors").string();
  expect_one_error(job.ddp(2, {"student.weights=" + weights}), 1, {"teacher.safetensors", "[16", "[32"});
}

TEST(Weights, ATokenizerWithMoreWordsThanTheTowerIsRefused) {
  const SmallJob job(40, 8, 8);
  const std::string sets =
      "student.text={family: bert, hidden_size: 16, num_hidden_layers: 1, num_attention_heads: 2, "
      "max_position_embeddings: 32, vocab_size: 10}";
  const auto packed = job.pack({sets});
  const auto result = packed.exit_code == 0 ? job.ddp(2, {sets}) : packed;
  EXPECT_EQ(own_errors(result.err).size(), 1U) << result.all();
  EXPECT_TRUE(result.exit_code == 1 || result.exit_code == 2) << result.all();
  EXPECT_TRUE(contains(result.err, "vocab")) << result.all();
  EXPECT_TRUE(contains(result.err, "10")) << result.all();
}

// ---------------------------------------------------------------- places that cannot be written

TEST(Places, ALogFolderThatIsAFileIsOneErrorBeforeTraining) {
  const SmallJob job(20, 5, 5);
  expect_success(job.pack());
  job.write("occupied", "a file\n");
  expect_one_error(job.ddp(2, {"logging.log_dir=occupied/run", "artifacts.root=artifacts"}), 1,
                   {"logging.log_dir", "occupied"});
  EXPECT_FALSE(fs::exists(job / "artifacts/teacher"));
}

TEST(Places, ALogFolderWhereNothingCanBeMadeIsOneErrorBeforeTraining) {
  const SmallJob job(20, 5, 5);
  expect_success(job.pack());
  expect_one_error(job.ddp(2, {"logging.log_dir=/proc/mmkd", "artifacts.root=artifacts"}), 1,
                   {"logging.log_dir", "/proc/mmkd"});
  EXPECT_FALSE(fs::exists(job / "artifacts/teacher"));
}

TEST(Places, AnArtifactsFolderThatIsAFileIsOneError) {
  const SmallJob job(20, 5, 5);
  job.write("occupied", "a file\n");
  expect_one_error(job.pack({"artifacts.root=occupied"}), 1, {"occupied"});
}

/// A file system of a given size, unmounted at the end.
class SmallDisk {
 public:
  SmallDisk(fs::path folder, int kilobytes) : folder_(std::move(folder)) {
    fs::create_directories(folder_);
    const std::string size = "size=" + std::to_string(kilobytes) + "k";
    mounted_ = mount("tmpfs", folder_.c_str(), "tmpfs", 0, size.c_str()) == 0;
  }
  ~SmallDisk() {
    if (mounted_) umount2(folder_.c_str(), MNT_DETACH);
  }
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;
  bool mounted() const { return mounted_; }

 private:
  fs::path folder_;
  bool mounted_ = false;
};

TEST(Places, AFullLogDiskIsOneErrorBeforeTraining) {
  const SmallJob job(20, 5, 5);
  const SmallDisk disk(job / "disk", 8);
  if (!disk.mounted()) GTEST_SKIP() << "file systems cannot be mounted here";
  expect_success(job.pack());
  job.write("disk/filler", std::string(8192, 'x'));
  expect_one_error(job.ddp(2, {"logging.log_dir=disk/run", "artifacts.root=artifacts"}), 1,
                   {"logging.log_dir", "disk"});
}

TEST(Places, ADiskThatFillsUpWhilePackingLeavesNothingThatLooksFinished) {
  const SmallJob job;
  const SmallDisk disk(job / "disk", 300);  // the shards have about 500 KB
  if (!disk.mounted()) GTEST_SKIP() << "file systems cannot be mounted here";
  expect_one_error(job.pack({"artifacts.root=disk"}), 1, {"shard disk/pack", "No space left"});
  for (const auto& entry : fs::directory_iterator(job / "disk/pack"))
    EXPECT_EQ(entry.path().extension(), ".work") << entry.path();
}

TEST(Places, ADiskWithoutRoomForTheTrainingIsRefusedBeforeIt) {
  const SmallJob job;
  const SmallDisk disk(job / "disk", 200);  // a checkpoint with AdamW's moments has more
  if (!disk.mounted()) GTEST_SKIP() << "file systems cannot be mounted here";
  expect_success(job.pack());
  const auto result = job.ddp(2, {"data.packed=" + job.artifact("pack").string(), "artifacts.root=disk"});
  expect_one_error(result, 1, {"disk: 0 MB are free", "one checkpoint"});
  EXPECT_FALSE(contains(result.err, "epoch 1"));
}

/// Takes all the room there is. What a program frees a moment later (a checkpoint that it gave up) is taken by the next
/// call.
void fill(const fs::path& filler) {
  std::ofstream out(filler, std::ios::binary | std::ios::app);
  const std::string page(4096, 'x');
  while (out.write(page.data(), static_cast<std::streamsize>(page.size())).flush()) {
  }
}

TEST(Places, ADiskThatFillsUpWhileTrainingLeavesOlderCheckpointsAndNothingThatLooksFinished) {
  const SmallJob job;
  const SmallDisk disk(job / "disk", 6000);  // room for everything, until something else takes it
  if (!disk.mounted()) GTEST_SKIP() << "file systems cannot be mounted here";
  expect_success(job.pack());
  const std::vector<std::string> sets{"data.packed=" + job.artifact("pack").string(), "artifacts.root=disk",
                                      "training.teacher_epochs=100", "training.student_epochs=1"};
  const fs::path filler = job / "disk/filler";
  {
    // The disk fills up in the middle, and there is room again later.
    Process process(job.ddp_command(2, sets), job.options());
    ASSERT_TRUE(process.wait_until([&] { return contains(process.err(), "teacher: epoch 5 "); }));
    EXPECT_FALSE(contains(process.err(), "could not be written")) << "there was room until now";
    EXPECT_TRUE(process.wait_until([&] {
      fill(filler);
      return contains(process.err(), "could not be written");
    }));
    EXPECT_TRUE(contains(process.err(), "Training goes on; the newest one is that after step"));
    fs::remove(filler);
    const auto result = process.wait();
    EXPECT_EQ(result.exit_code, 0) << result.all();
  }
  for (const char* stage : {"teacher", "cache", "student", "test"})
    fs::remove_all(job / ("disk/" + std::string(stage)));
  // It stays full: the results have no room, and nothing looks finished.
  Process process(job.ddp_command(2, sets), job.options());
  ASSERT_TRUE(process.wait_until([&] { return contains(process.err(), "teacher: epoch 5 "); }));
  process.wait_until([&] {
    fill(filler);
    return false;
  });
  const auto result = process.wait();
  EXPECT_EQ(result.exit_code, 1) << result.all();
  EXPECT_TRUE(contains(result.err, "No space left")) << result.all();
  std::error_code none;
  for (const auto& entry : fs::directory_iterator(job / "disk/teacher", none))
    EXPECT_EQ(entry.path().extension(), ".work") << entry.path();
}

}  // namespace
}  // namespace mmkd::test
