#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <regex>

#include "mmkd/formats/safetensors.h"
#include "tests/support/small_job.h"

// The whole job as people run it: what it leaves, what it reuses, and that the number of ranks does not matter.
namespace mmkd::test {
namespace {

namespace fs = std::filesystem;

nlohmann::ordered_json json_of(const fs::path& file) {
  return nlohmann::ordered_json::parse(all_files(file.parent_path()).at(file.filename().string()));
}

std::vector<float> values_of(const SafetensorsFile& file, const std::string& name) {
  const auto bytes = file.bytes(name);
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

/// Softmax does not see a key's bias: its gradient is nothing but rounding, which AdamW makes steps of.
bool is_key_bias(const std::string& name, std::size_t index, std::size_t size) {
  if (name.ends_with(".key.bias")) return true;
  return name.ends_with(".in_proj_bias") && index >= size / 3 && index < size / 3 * 2;  // query, key, value
}

/// The largest difference of any weight of two files with equal names and shapes, but for biases of keys.
double largest_difference(const fs::path& a, const fs::path& b) {
  const SafetensorsFile left(a);
  const SafetensorsFile right(b);
  EXPECT_EQ(left.header().tensors.size(), right.header().tensors.size());
  double largest = 0;
  for (const auto& [name, entry] : left.header().tensors) {
    EXPECT_EQ(entry.dtype, DType::f32) << name;
    EXPECT_EQ(entry.shape, right.entry(name).shape) << name;
    const auto x = values_of(left, name);
    const auto y = values_of(right, name);
    for (std::size_t i = 0; i < std::min(x.size(), y.size()); ++i) {
      if (is_key_bias(name, i, x.size())) continue;
      const double difference = std::abs(static_cast<double>(x[i]) - y[i]);
      largest = std::isnan(difference) ? INFINITY : std::max(largest, difference);
    }
  }
  return largest;
}

bool is_loss(const std::string& key) { return key == "train_loss" || key.starts_with("loss_"); }

/// Every loss of every epoch, within a share of its size.
void expect_same_losses(const fs::path& file_a, const fs::path& file_b, double relative) {
  const auto a = json_of(file_a);
  const auto b = json_of(file_b);
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t epoch = 0; epoch < a.size(); ++epoch) {
    int compared = 0;
    for (const auto& [key, value] : a.at(epoch).items()) {
      if (!is_loss(key)) continue;
      const auto want = value.get<double>();
      EXPECT_NEAR(b.at(epoch).at(key).get<double>(), want, relative * std::max(1.0, std::abs(want)))
          << key << " of epoch " << epoch + 1 << ": " << file_a << " and " << file_b;
      ++compared;
    }
    EXPECT_GE(compared, 2);
  }
}

std::string logs(const std::string& name) { return "logging.log_dir=logs/" + name; }

TEST(WholeJob, LearnsTheDemoDataLeavesEverythingAndReusesIt) {
  const TempFolder folder;
  const auto option = [&](const std::string& key, const std::string& name) {
    return key + "=" + (folder / name).string();
  };
  const std::vector<std::string> sets{"--set", std::string("data.root=") + MMKD_TEST_DATA,
                                      "--set", option("logging.log_dir", "logs/demo"),
                                      "--set", option("artifacts.root", "artifacts")};
  const ProcessOptions options{.environment = {}, .folder = MMKD_SOURCE_DIR, .timeout = std::chrono::seconds(280)};
  const auto command = [&](const char* program, const std::vector<std::string>& more = {}) {
    std::vector<std::string> words{program, "config/demo.yaml"};
    words.insert(words.end(), sets.begin(), sets.end());
    words.insert(words.end(), more.begin(), more.end());
    return words;
  };
  ASSERT_EQ(run(command(MMKD_PACK), options).exit_code, 0);
  const auto first = run(on_ranks(2, command(MMKD_DDP)), options);
  ASSERT_EQ(first.exit_code, 0) << first.all();

  const fs::path log = folder / "logs/demo";
  for (const char* file : {"student_best.safetensors",
                           "student_best.pth",
                           "student_final.safetensors",
                           "student_final.pth",
                           "teacher.safetensors",
                           "teacher.pth",
                           "student_hf/vision/config.json",
                           "student_hf/vision/model.safetensors",
                           "student_hf/vision/preprocessor_config.json",
                           "student_hf/text/config.json",
                           "student_hf/text/model.safetensors",
                           "student_hf/text/vocab.txt",
                           "student_hf/text/tokenizer_config.json",
                           "metrics.csv",
                           "metrics.json",
                           "teacher_metrics.csv",
                           "teacher_metrics.json",
                           "results.json",
                           "confusion_dev_shape.csv",
                           "confusion_dev_site.csv",
                           "confusion_test_shape.csv",
                           "confusion_test_site.csv",
                           "teacher_confusion_test_shape.csv",
                           "config.yaml",
                           "timings.csv",
                           "run.log",
                           "tensorboard/teacher",
                           "tensorboard/student"}) {
    EXPECT_TRUE(fs::exists(log / file)) << file;
  }
  EXPECT_EQ(json_of(log / "metrics.json").size(), 12U);
  EXPECT_EQ(json_of(log / "teacher_metrics.json").size(), 16U);
  const auto epochs = json_of(log / "metrics.json");
  const auto& last = epochs.back();
  EXPECT_GT(last.at("dev_site_f1").get<double>(), 0.8) << "chance is .20";
  EXPECT_GT(last.at("dev_shape_f1").get<double>(), 0.4) << "chance is .25";

  // Python's libraries read it, where they are.
  if (fs::exists(MMKD_PYTHON)) {
    const auto read = run({MMKD_PYTHON, std::string(MMKD_SOURCE_DIR) + "/tests/python/check_run.py", log.string()},
                          {.environment = {{"HF_HUB_OFFLINE", "1"}}, .folder = {}, .timeout = std::chrono::seconds(120)});
    EXPECT_EQ(read.exit_code, 0) << read.all();
    EXPECT_TRUE(contains(read.out, "run: ") || contains(read.out, "skipped: ")) << read.all();
  }

  // Again: nothing is trained, and the results are the same.
  const auto weights = all_files(log).at("student_best.safetensors");
  const auto again = run(on_ranks(2, command(MMKD_DDP)), options);
  ASSERT_EQ(again.exit_code, 0) << again.all();
  for (const char* stage : {"teacher", "cache", "student", "test"})
    EXPECT_TRUE(contains(again.err, std::string(stage) + ": reused ")) << again.err;
  EXPECT_FALSE(contains(again.err, "epoch 1"));
  EXPECT_EQ(all_files(log).at("student_best.safetensors"), weights);

  // Another loss: the teacher and its outputs are taken, the student is trained.
  const auto other =
      run(on_ranks(2, command(MMKD_DDP, {"--set", "loss.type=vanilla", "--set", "training.student_epochs=1", "--set",
                                         option("logging.log_dir", "logs/vanilla")})),
          options);
  ASSERT_EQ(other.exit_code, 0) << other.all();
  for (const char* line : {"teacher: reused ", "cache: reused ", "student: building", "test: building"})
    EXPECT_TRUE(contains(other.err, line)) << other.err;
  EXPECT_EQ(json_of(folder / "logs/vanilla/metrics.json").size(), 1U);
}

TEST(WholeJob, ADryRunPrintsThePlanAndWritesNothing) {
  const SmallJob job;
  ASSERT_EQ(job.pack().exit_code, 0);
  const auto before = all_files(job.folder());
  const auto planned = job.ddp(2, {}, {"--dry-run"});
  ASSERT_EQ(planned.exit_code, 0) << planned.all();
  for (const char* stage : {"teacher", "cache", "student", "test"})
    EXPECT_TRUE(std::regex_search(planned.out, std::regex(std::string(stage) + " +[0-9a-f]{12} +build")))
        << planned.out;
  EXPECT_TRUE(contains(planned.out, "90 train, 24 dev, 24 test samples; 6 steps per epoch"));
  EXPECT_EQ(all_files(job.folder()), before);

  ASSERT_EQ(job.ddp(2).exit_code, 0);
  const auto ready = job.ddp(2, {}, {"--dry-run"});
  for (const char* stage : {"teacher", "cache", "student", "test"})
    EXPECT_TRUE(std::regex_search(ready.out, std::regex(std::string(stage) + " +[0-9a-f]{12} +reuse"))) << ready.out;
}

/// The job with an uneven last batch and dropout .1, from nothing, for each number of ranks.
void expect_parity(const std::vector<std::string>& sets) {
  SmallJob job;
  ASSERT_EQ(job.pack(sets).exit_code, 0);
  for (int ranks = 1; ranks <= 4; ++ranks) {
    const std::string name = std::to_string(ranks);
    auto all = sets;
    all.insert(all.end(), {logs(name), "artifacts.root=artifacts-" + name, "training.teacher_epochs=2",
                           "training.student_epochs=3"});
    fs::create_directory(job / ("artifacts-" + name));
    fs::copy(job / "artifacts/pack", job / ("artifacts-" + name + "/pack"), fs::copy_options::recursive);
    const auto result = job.ddp(ranks, all);
    ASSERT_EQ(result.exit_code, 0) << result.all();
    if (ranks == 1) continue;
    for (const char* file : {"metrics.json", "teacher_metrics.json"})
      expect_same_losses(job / ("logs/1/" + std::string(file)), job / ("logs/" + name + "/" + file), 1e-5);
    for (const char* file : {"student_final.safetensors", "teacher.safetensors"}) {
      EXPECT_LT(largest_difference(job / ("logs/1/" + std::string(file)), job / ("logs/" + name + "/" + file)), 1e-5)
          << file << " on " << ranks << " ranks";
    }
  }
}

TEST(Parity, CombinedLossIsTheSameOnOneToFourRanks) {
  expect_parity({"teacher.dropout=0.1", "student.dropout=0.1", "training.clip_norm=1.0"});
}

TEST(Parity, RelationalLossAndAnotherFusionAreTheSameOnOneToFourRanks) {
  expect_parity({"loss.type=rkd", "fusion.type=gated", "training.schedule=cosine", "training.warmup_fraction=0.2"});
}

TEST(LiveTeacher, GivesTheLossesOfTheCachedOne) {
  const SmallJob job;
  const std::vector<std::string> epochs{"training.student_epochs=3"};
  ASSERT_EQ(job.pack().exit_code, 0);
  auto sets = epochs;
  sets.push_back(logs("cached"));
  const auto cached = job.ddp(2, sets);
  ASSERT_EQ(cached.exit_code, 0) << cached.all();
  sets = epochs;
  sets.insert(sets.end(), {logs("live"), "training.teacher=live"});
  const auto live = job.ddp(2, sets);
  ASSERT_EQ(live.exit_code, 0) << live.all();
  EXPECT_TRUE(contains(live.err, "teacher: reused "));
  EXPECT_FALSE(contains(live.err, "cache: "));
  EXPECT_TRUE(contains(live.err, "student: building"));
  expect_same_losses(job / "logs/cached/metrics.json", job / "logs/live/metrics.json", 1e-5);
  EXPECT_LT(
      largest_difference(job / "logs/cached/student_final.safetensors", job / "logs/live/student_final.safetensors"),
      1e-5);
}

TEST(MicroBatches, GiveTheLossesOfTheWholeBatch) {
  const SmallJob job;
  const std::vector<std::string> common{"loss.type=vanilla", "training.student_epochs=3"};
  ASSERT_EQ(job.pack().exit_code, 0);
  for (const auto& [name, size] : {std::pair("whole", "0"), std::pair("parts", "3")}) {
    auto sets = common;
    sets.insert(sets.end(), {logs(name), std::string("training.micro_batch_size=") + size});
    const auto result = job.ddp(2, sets);
    ASSERT_EQ(result.exit_code, 0) << result.all();
  }
  expect_same_losses(job / "logs/whole/teacher_metrics.json", job / "logs/parts/teacher_metrics.json", 1e-5);
  expect_same_losses(job / "logs/whole/metrics.json", job / "logs/parts/metrics.json", 1e-4);
}

TEST(Variants, RunThrough) {
  const SmallJob job(40, 10, 10);
  ASSERT_EQ(job.pack().exit_code, 0);
  int number = 0;
  for (const std::vector<std::string>& sets : {
           std::vector<std::string>{"training.teacher_only=true"},
           {"loss.type=ce_only", "training.teacher_epochs=0"},
           {"loss.type=crd"},
           {"loss.type=mmd"},
           {"training.precision=bf16", "cache.features=fp16"},
           {"training.teacher_select=best", "evaluation.mcnemar=true"},
           {"fusion.type=concat_mlp", "student.text_pooling=mean"},
       }) {
    auto all = sets;
    all.push_back(logs(std::to_string(++number)));
    const auto result = job.ddp(2, all);
    EXPECT_EQ(result.exit_code, 0) << sets.front() << "\n" << result.all();
    EXPECT_TRUE(fs::exists(job / ("logs/" + std::to_string(number) + "/results.json"))) << sets.front();
  }
}

TEST(Table, MayHaveNoTestSplit) {
  const SmallJob job(40, 10, 10);
  const std::string table = "data.table={train: train.jsonl, dev: dev.jsonl}";
  const auto packed = job.pack({table});
  ASSERT_EQ(packed.exit_code, 0) << packed.all();
  const auto result = job.ddp(2, {table, "evaluation.mcnemar=true"});
  EXPECT_EQ(result.exit_code, 0) << result.all();
}

}  // namespace
}  // namespace mmkd::test
