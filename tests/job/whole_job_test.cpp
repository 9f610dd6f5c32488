#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <regex>

#include "mmkd/base/files.h"
#include "mmkd/formats/safetensors.h"
#include "tests/support/small_job.h"

// The whole job as people run it: what it leaves, what it reuses, and that the number of ranks does not matter.
namespace mmkd::test {
namespace {

namespace fs = std::filesystem;

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
    const auto read =
        run({MMKD_PYTHON, std::string(MMKD_SOURCE_DIR) + "/tests/python/check_run.py", log.string()},
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
void expect_parity(const std::vector<std::string>& sets, int most_ranks = 4, bool weights = true) {
  SmallJob job;
  ASSERT_EQ(job.pack(sets).exit_code, 0);
  for (int ranks = 1; ranks <= most_ranks; ++ranks) {
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
    if (!weights) continue;
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

const std::string kConvNetStudent =
    "student.vision={family: mobilenet_v2, image_size: 32, mobilenet_v2: {depth_multiplier: 0.1, depth_divisible_by: "
    "4, "
    "min_depth: 4, expand_ratio: 2, finegrained_output: false}}";

TEST(Parity, SynchronisedBatchNormsAreTheSameOnOneToThreeRanks) {
  // A deep net of tiny channels is chaotic: AdamW makes steps of full size of gradients that are rounding. With a small
  // rate the losses stay together; the weights of dead channels do not.
  expect_parity({kConvNetStudent, "loss.type=vanilla", "training.student_lr=1.0e-6"}, 3, false);
}

TEST(Parity, RoutingAndNewerTermsAreTheSameOnOneToThreeRanks) {
  expect_parity(
      {"fusion.type=energy_aware_adaptive", "loss={terms: [{ce: 1}, {dkd: 1}, {dist: 1}, {mmd: 1}, {rkd_angle: 1}]}"},
      3);
}

TEST(Parity, JointTrainingIsTheSameOnOneToThreeRanks) {
  SmallJob job;
  const std::vector<std::string> common{"training.mode=joint", "training.teacher_lr=5.0e-4"};
  ASSERT_EQ(job.pack(common).exit_code, 0);
  for (int ranks = 1; ranks <= 3; ++ranks) {
    const std::string name = std::to_string(ranks);
    auto sets = common;
    sets.insert(sets.end(),
                {logs(name), "data.packed=" + job.artifact("pack").string(), "artifacts.root=artifacts-" + name});
    const auto result = job.ddp(ranks, sets);
    ASSERT_EQ(result.exit_code, 0) << result.all();
    EXPECT_TRUE(contains(result.err, "joint: building"));
    const auto first = json_of(job / ("logs/" + name + "/metrics.json")).front();
    EXPECT_TRUE(first.contains("teacher_train_loss") && first.contains("teacher_loss_ce"));
    if (ranks == 1) continue;
    expect_same_losses(job / "logs/1/metrics.json", job / ("logs/" + name + "/metrics.json"), 1e-5);
    for (const char* file : {"student_final.safetensors", "teacher.safetensors"})
      EXPECT_LT(largest_difference(job / ("logs/1/" + std::string(file)), job / ("logs/" + name + "/" + file)), 1e-5);
  }
}

TEST(AugmentedViews, GiveTheSameLossesCachedAndLive) {
  const SmallJob job;
  const std::vector<std::string> augment{
      "augment={views: 2, random_resized_crop: {min_scale: 0.5}, horizontal_flip: 0.5, color_jitter: {brightness: 0.3, "
      "contrast: 0.2, saturation: 0.1}}",
      "training.student_epochs=3"};
  ASSERT_EQ(job.pack().exit_code, 0);
  auto sets = augment;
  sets.push_back(logs("cached"));
  const auto cached = job.ddp(2, sets);
  ASSERT_EQ(cached.exit_code, 0) << cached.all();
  sets = augment;
  sets.insert(sets.end(), {logs("live"), "training.teacher=live"});
  const auto live = job.ddp(2, sets);
  ASSERT_EQ(live.exit_code, 0) << live.all();
  EXPECT_TRUE(contains(live.err, "teacher: reused "));
  expect_same_losses(job / "logs/cached/metrics.json", job / "logs/live/metrics.json", 1e-5);
  // Without views the teacher is another one.
  const auto plain = job.ddp(2, {logs("plain")});
  ASSERT_EQ(plain.exit_code, 0) << plain.all();
  EXPECT_TRUE(contains(plain.err, "teacher: building"));
}

TEST(SeveralTeachers, AreTrainedAndCachedOnceEachAndJoined) {
  const SmallJob job;
  ASSERT_EQ(job.pack().exit_code, 0);
  const auto both = job.ddp(2, {logs("both"), "teacher.seeds=[3, 4]"});
  ASSERT_EQ(both.exit_code, 0) << both.all();
  for (const char* line : {"teacher: building", "teacher.1: building", "cache: building", "cache.1: building"})
    EXPECT_TRUE(contains(both.err, line)) << both.err;
  const auto live = job.ddp(2, {logs("live"), "teacher.seeds=[3, 4]", "training.teacher=live"});
  ASSERT_EQ(live.exit_code, 0) << live.all();
  expect_same_losses(job / "logs/both/metrics.json", job / "logs/live/metrics.json", 1e-5);

  // One of them alone is the same teacher; a finished run's teacher is taken as it is.
  const auto one = job.ddp(2, {logs("one"), "teacher.seeds=[4]"});
  ASSERT_EQ(one.exit_code, 0) << one.all();
  EXPECT_TRUE(contains(one.err, "teacher: reused ") && contains(one.err, "cache: reused ")) << one.err;
  auto yaml = job.read("job.yaml");
  const auto begin = yaml.find("teacher:"), end = yaml.find("student:");
  job.write("run.yaml", yaml.substr(0, begin) + "teacher: {runs: [logs/one, logs/both]}\n" + yaml.substr(end));
  const auto packed = run({MMKD_PACK, "run.yaml"}, job.options());
  ASSERT_EQ(packed.exit_code, 0) << packed.all();
  EXPECT_TRUE(contains(packed.err, "pack: reused")) << packed.err;
  const auto taken = run(on_ranks(2, {MMKD_DDP, "run.yaml", "--set", logs("taken")}), job.options());
  ASSERT_EQ(taken.exit_code, 0) << taken.all();
  EXPECT_EQ(all_files(job / "logs/taken").at("teacher.safetensors"),
            all_files(job / "logs/one").at("teacher.safetensors"));
  EXPECT_EQ(all_files(job / "logs/taken").at("teacher.1.safetensors"),
            all_files(job / "logs/both").at("teacher.safetensors"));
}

TEST(SeveralTeachers, ServeStudentsWithOtherPicturesAndTokens) {
  const SmallJob job;
  ASSERT_EQ(job.pack().exit_code, 0);
  ASSERT_EQ(job.ddp(2).exit_code, 0);
  const std::string larger =
      "student.vision={family: vit, image_size: 48, patch_size: 8, hidden_size: 16, num_hidden_layers: 1, "
      "num_attention_heads: 2}";
  ASSERT_EQ(job.pack({larger}).exit_code, 0);
  const auto other = job.ddp(2, {larger, logs("other")});
  ASSERT_EQ(other.exit_code, 0) << other.all();
  EXPECT_TRUE(contains(other.err, "teacher: reused ") && contains(other.err, "cache: reused ")) << other.err;
  EXPECT_TRUE(contains(other.err, "student: building"));
}

TEST(Seeds, AreWholeJobsWithASummary) {
  const SmallJob job(60, 20, 20);
  ASSERT_EQ(job.pack().exit_code, 0);
  const auto result = job.ddp(2, {"training.seeds=[1, 2, 3]", "evaluation.robustness=true"});
  ASSERT_EQ(result.exit_code, 0) << result.all();
  const auto summary = json_of(job / "logs/run/seeds.json");
  EXPECT_EQ(summary.at("seeds"), nlohmann::ordered_json({1, 2, 3}));
  double sum = 0;
  for (const auto seed : {1, 2, 3}) {
    const auto one = json_of(job / ("logs/run/seed-" + std::to_string(seed) + "/results.json"));
    EXPECT_EQ(one.at("seed"), seed);
    sum += one.at("metrics").at("test").at("test_site_f1").get<double>();
  }
  EXPECT_NEAR(summary.at("student").at("test_site_f1").at("mean").get<double>(), sum / 3, 1e-12);
  EXPECT_GE(summary.at("teacher").at("test_shape_f1").at("std").get<double>(), 0);
}

TEST(Studies, AreInTheResults) {
  const SmallJob job;
  ASSERT_EQ(job.pack().exit_code, 0);
  const auto result = job.ddp(2, {"evaluation.robustness=true", "fusion.type=shomr"});
  ASSERT_EQ(result.exit_code, 0) << result.all();
  const auto results = json_of(job / "logs/run/results.json");
  const auto& studies = results.at("studies");
  for (const char* task : {"shape", "site"}) {
    EXPECT_TRUE(studies.at("mcnemar").at(task).contains("p_exact"));
    const double agreement = studies.at("agreement").at(task).get<double>();
    EXPECT_TRUE(agreement >= 0 && agreement <= 1);
    for (const char* model : {"teacher", "student"}) {
      const auto& calibration = studies.at("calibration").at(model).at(task);
      EXPECT_GT(calibration.at("temperature").get<double>(), 0);
      EXPECT_TRUE(calibration.at("before").contains("ece") && calibration.at("after").contains("nll"));
    }
  }
  for (const char* model : {"teacher", "student"}) {
    const auto& robust = studies.at("robustness").at(model);
    for (const char* name : {"mismatched_text", "noise_0.1", "noise_0.2", "missing_0.3", "no_image", "no_text"})
      EXPECT_TRUE(robust.at(name).contains("test_shape_f1")) << name;
    const auto& size = studies.at("size").at(model);
    EXPECT_GT(size.at("flops_per_sample").get<std::int64_t>(), 1000);
    EXPECT_EQ(size.at("parameters").at("total"), results.at("models").at(model).at("total_params"));
    double share = 0;
    for (const auto& [route, value] : studies.at("routing").at(model).at("test").at("shares").items())
      share += value.get<double>();
    EXPECT_NEAR(share, 1, 1e-9);
    EXPECT_GT(results.at("timing").at("latency").at(model).at("median_ms").get<double>(), 0);
  }
  const auto epoch = json_of(job / "logs/run/metrics.json").front();
  EXPECT_NEAR(epoch.at("route_image").get<double>() + epoch.at("route_text").get<double>() +
                  epoch.at("route_joint").get<double>() + epoch.at("route_soft").get<double>(),
              1, 1e-6);
  for (const char* file : {"predictions_test.csv", "teacher_predictions_dev.csv", "student_projections.safetensors"})
    EXPECT_TRUE(fs::exists(job / ("logs/run/" + std::string(file)))) << file;
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
  ASSERT_EQ(job.pack().exit_code, 0);
  // combined compares samples: it takes two forward passes. The energy penalty does so in the teacher too.
  for (const std::string loss : {"loss.type=vanilla", "loss.type=combined", "fusion.type=energy_aware_adaptive"}) {
    const auto log = [&](const char* name) { return loss.substr(loss.find('=') + 1) + "-" + name; };
    for (const auto& [name, size] : {std::pair("whole", "0"), std::pair("parts", "3")}) {
      const auto result = job.ddp(
          2, {loss, "training.student_epochs=3", logs(log(name)), std::string("training.micro_batch_size=") + size});
      ASSERT_EQ(result.exit_code, 0) << result.all();
    }
    expect_same_losses(job / ("logs/" + log("whole") + "/teacher_metrics.json"),
                       job / ("logs/" + log("parts") + "/teacher_metrics.json"), 1e-5);
    expect_same_losses(job / ("logs/" + log("whole") + "/metrics.json"),
                       job / ("logs/" + log("parts") + "/metrics.json"), 1e-4);
  }
}

TEST(GradientCheckpointing, GivesTheSameBytes) {
  const SmallJob job;
  for (const char* root : {"artifacts.root=artifacts-false", "artifacts.root=artifacts-true"})
    ASSERT_EQ(job.pack({root}).exit_code, 0);
  for (const std::string precision : {"fp32", "bf16"}) {
    for (const std::string on : {"false", "true"}) {
      const auto result = job.ddp(2, {"training.precision=" + precision, "training.gradient_checkpointing=" + on,
                                      "artifacts.root=artifacts-" + on, logs(precision + "-" + on)});
      ASSERT_EQ(result.exit_code, 0) << result.all();
      EXPECT_TRUE(contains(result.err, "student: building")) << "a run of its own: " << result.err;
    }
    for (const char* file : {"teacher.safetensors", "student_final.safetensors"}) {
      const auto kept = read_file(job / ("logs/" + precision + "-false/" + file));
      EXPECT_TRUE(read_file(job / ("logs/" + precision + "-true/" + file)) == kept) << precision << " " << file;
    }
  }
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
           {"fusion.type=cross_attention"},
           {"fusion.type=film", "loss.projection=frozen"},
           {"fusion.type=modality_dropout", "loss={type: mmd, mmd_bandwidth: fixed}"},
           {"fusion.type=transformer_concat", "fusion.routing=sampled"},
           {"student.modality=image"},
           {"student.modality=text", "loss.type=combined"},
           {"training.teacher_only=true", "teacher.modality=text"},
       }) {
    auto all = sets;
    all.push_back(logs(std::to_string(++number)));
    const auto result = job.ddp(2, all);
    EXPECT_EQ(result.exit_code, 0) << sets.front() << "\n" << result.all();
    EXPECT_TRUE(fs::exists(job / ("logs/" + std::to_string(number) + "/results.json"))) << sets.front();
  }
}

TEST(CustomStudent, IsTrainedWithItsOwnGate) {
  const SmallJob job(40, 10, 10);
  auto yaml = job.read("job.yaml");
  const auto begin = yaml.find("student:"), end = yaml.find("training:");
  job.write("job.yaml",
            yaml.substr(0, begin) +
                "student: {vision: custom, text: custom, tokenizer: vocab.txt, custom: {vision_d: 24, vision_depth: 1, "
                "vision_heads: 2, text_d: 16, text_depth: 1, text_heads: 2, max_len: 32, fusion_dim: 16}}\n" +
                yaml.substr(end));
  const auto packed = job.pack();
  ASSERT_EQ(packed.exit_code, 0) << packed.all();
  const auto result = job.ddp(2);
  ASSERT_EQ(result.exit_code, 0) << result.all();
  EXPECT_TRUE(fs::exists(job / "logs/run/student_hf/vision/config.json"));
  EXPECT_TRUE(contains(result.err, "no text tower is written"));
  EXPECT_EQ(json_of(job / "logs/run/results.json").at("models").at("student").at("vision"), "vit-1x24");
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
