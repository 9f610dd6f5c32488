#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <memory>
#include <optional>
#include <vector>

#include "fake_device.h"
#include "mmkd/base/rng.h"
#include "mmkd/train/trainer.h"
#include "tests/support/cuda_dropout.h"

// The training step as a GPU gets it, on a device that is none: the numbers of the CPU, what the host waits for, and
// steps that are recorded once and replayed.
namespace mmkd {
namespace {

using testing::fake_device;
using testing::kFakeDevice;

/// The operator of the CUDA plug-in, for the fake device's CPU.
at::Tensor keyed_dropout_operator(const at::Tensor& x, const at::Tensor& sample_keys,
                                  const std::optional<at::Tensor>& offsets, const at::Tensor& step, std::int64_t prefix,
                                  std::int64_t layer, std::int64_t threshold, double scale) {
  at::Tensor out = at::empty_like(x);
  emulated::cuda_dropout(x, out, {sample_keys, offsets, step, prefix, layer, threshold, scale}, {2, 3});
  return out;
}
TORCH_LIBRARY_FRAGMENT(mmkd, library) {
  library.def(
      "keyed_dropout(Tensor x, Tensor sample_keys, Tensor? offsets, Tensor step, int prefix, int layer, int threshold, "
      "float scale) -> Tensor");
}
TORCH_LIBRARY_IMPL(mmkd, CPU, library) { library.impl("keyed_dropout", keyed_dropout_operator); }

/// A world of one on another device.
class DeviceWorld final : public World {
 public:
  DeviceWorld(const World& world, at::Device device) : world_(world), device_(device) {}
  int rank() const override { return 0; }
  int size() const override { return 1; }
  int local_rank() const override { return 0; }
  int local_size() const override { return 1; }
  at::Device device() const override { return device_; }
  const MpiSession& mpi() const override { return world_.mpi(); }
  const c10::intrusive_ptr<c10d::ProcessGroup>& group() const override { return world_.group(); }
  void all_reduce_sum(at::Tensor& tensor) const override { world_.all_reduce_sum(tensor); }
  void broadcast(at::Tensor& tensor, int root) const override { world_.broadcast(tensor, root); }
  void barrier() const override {}
  at::Tensor all_gather(const at::Tensor& tensor) const override { return world_.all_gather(tensor); }

 private:
  const World& world_;
  at::Device device_;
};

constexpr std::int64_t kSide = 16, kSampleCount = 40, kLongest = 40;

/// Pictures and texts that say something of their labels.
class Samples final : public SampleSource {
 public:
  Samples() {
    KeyedRng rng(7, RngPurpose::demo);
    for (std::int64_t i = 0; i < kSampleCount; ++i) {
      Sample sample;
      const auto label = rng.below(2);
      sample.labels = {static_cast<std::int32_t>(label), static_cast<std::int32_t>(i % 3)};
      for (std::int64_t p = 0; p < 3 * kSide * kSide; ++p)
        sample.pixels.push_back(static_cast<std::uint8_t>(rng.below(128) + 100 * label));
      const auto length = 2 + rng.below(kLongest - 2);
      for (std::uint64_t t = 0; t < length; ++t)
        sample.tokens.push_back(static_cast<std::int32_t>(1 + rng.below(20) + 9 * label));
      samples_.push_back(std::move(sample));
    }
  }
  std::int64_t size() const override { return std::ssize(samples_); }
  Record get(std::int64_t i) const override {
    const auto& sample = samples_.at(static_cast<std::size_t>(i));
    return {.id = "s",
            .sample_key = 0xF000000000000000ULL + static_cast<std::uint64_t>(i),
            .pixels = {sample.pixels},
            .tokens = {sample.tokens},
            .labels = sample.labels};
  }

 private:
  struct Sample {
    std::vector<std::uint8_t> pixels;
    std::vector<std::int32_t> tokens, labels;
  };
  std::vector<Sample> samples_;
};

ModelSpec model_spec(FusionType fusion, TextFamily family = TextFamily::bert) {
  ModelSpec spec;
  spec.vision.hidden_size = 32;
  spec.vision.num_hidden_layers = 2;
  spec.vision.num_attention_heads = 2;
  spec.vision.image_size = kSide;
  spec.vision.patch_size = 8;
  spec.vision.hidden_dropout = 0.1;
  spec.text.family = family;
  spec.text.vocab_size = 40;
  spec.text.hidden_size = 32;
  spec.text.num_hidden_layers = 2;
  spec.text.num_attention_heads = 2;
  spec.text.max_position_embeddings = 70;
  spec.text.hidden_dropout = 0.1;
  spec.fusion = {.type = fusion, .dim = 32, .heads = 2, .layers = 1, .hidden_mult = 2, .dropout = 0.1};
  spec.head_dropout = 0.1;
  spec.tasks = {{"parity", 2}, {"third", 3}};
  return spec;
}

/// Made-up outputs of a teacher.
class Outputs final : public TeacherOutputSource {
 public:
  TeacherOutputs rows(std::span<const std::int64_t> rows, std::span<const std::int64_t> /*views*/) const override {
    const at::Tensor index = at::tensor(std::vector<std::int64_t>(rows.begin(), rows.end()), at::kLong);
    const auto of = [&](const at::Tensor& all) { return all.index_select(0, index); };
    return {of(features_),
            of(features_.neg()),
            of(features_.narrow(1, 0, 32)),
            of(features_.narrow(1, 16, 32)),
            {of(features_.narrow(1, 0, 2)), of(features_.narrow(1, 3, 3))}};
  }

 private:
  at::Tensor features_ = at::arange(kSampleCount * 48, at::kFloat).mul(0.37).sin().view({kSampleCount, 48});
};

struct Recipe {
  FusionType fusion = FusionType::simple;
  TextFamily family = TextFamily::bert;
  std::vector<LossTerm> terms = {};  // none: as a teacher learns
  std::int64_t samples_of_batch = 10, micro_batch = 0;
  bool gradient_checkpointing = false;
  std::optional<FusionType> live_teacher = {};  // of a teacher that is computed in each step; none: outputs are given
};

struct Course {
  std::vector<double> losses;            // of each step, of the epoch so far
  std::vector<std::int64_t> host_reads;  // of the device, since the step before
  std::vector<at::Tensor> weights;
};

constexpr std::int64_t kEpochs = 3;

class DeviceStep : public ::testing::Test {
 protected:
  void SetUp() override { fake_device() = {}; }
  void TearDown() override {
    for (const auto& what : fake_device().refused) ADD_FAILURE() << "refused: " << what;
  }

  Course train(at::Device device, const Recipe& recipe, const decltype(TrainerParts::make_graph)& make_graph = {}) {
    const auto cpu_world = make_world(session_, at::kCPU);
    const DeviceWorld world(*cpu_world, device);
    const auto model = make_model(model_spec(recipe.fusion, recipe.family), 3);
    ObjectiveSpec of_objective;
    if (!recipe.terms.empty()) of_objective.terms = recipe.terms;
    of_objective.student_width = 32;
    of_objective.teacher_img_width = of_objective.teacher_txt_width = 48;
    Objective objective(of_objective, 0);
    model->to(device);
    objective.to(device);
    const Samples source;
    const Outputs outputs;
    TrainerParts parts{.world = world, .model = *model, .objective = objective, .train = source, .assembler = {}};
    parts.make_graph = make_graph;
    parts.assembler.student = InputSpec{.height = kSide, .width = kSide, .policy = {}, .longest_text = kLongest};
    std::shared_ptr<MultimodalModel> teacher;
    if (recipe.live_teacher) {
      teacher = make_model(model_spec(*recipe.live_teacher), 9);
      teacher->to(device);
      teacher->eval();
      parts.live_teachers = {teacher.get()};
      parts.assembler.teacher = parts.assembler.student;
    } else if (!recipe.terms.empty()) {
      parts.assembler.teacher_outputs = &outputs;
    }
    TrainerSpec spec;
    spec.stage = "student";
    spec.epochs = kEpochs;
    spec.batch_size = recipe.samples_of_batch;
    spec.micro_batch_size = recipe.micro_batch;
    spec.gradient_checkpointing = recipe.gradient_checkpointing;
    spec.num_workers = 0;
    spec.seed = 5;
    spec.peak_lr = 1e-3;
    spec.schedule = Schedule::linear;
    spec.warmup_fraction = 0.3;
    spec.optimizer.clip_norm = 1;
    Course run;
    TrainerHooks hooks;
    hooks.on_step = [&](const StepReport& report) {
      run.host_reads.push_back(fake_device().host_reads);
      run.losses.push_back(report.losses().front().second);
      fake_device().host_reads = 0;
    };
    Trainer(parts, spec, std::move(hooks)).run();
    for (const auto& entry : model->named_weights()) run.weights.push_back(entry.view.detach().cpu());
    return run;
  }

  struct Recorded {
    Course course;
    int graphs = 0;
  };
  Recorded record(const Recipe& recipe) {
    Recorded recorded;
    recorded.course = train(kFakeDevice, recipe, [&] {
      ++recorded.graphs;
      return std::make_unique<testing::FakeGraph>();
    });
    return recorded;
  }

  static void expect_same_course(const Course& run, const Course& expected) {
    ASSERT_EQ(run.losses.size(), expected.losses.size());
    for (std::size_t i = 0; i < run.losses.size(); ++i)
      EXPECT_NEAR(run.losses[i], expected.losses[i], 2e-4 * expected.losses[i]) << "step " << i;
  }

  MpiSession session_;
};

std::vector<LossTerm> all_terms() {
  std::vector<LossTerm> terms;
  for (const auto type :
       {LossTermType::ce, LossTermType::kl, LossTermType::mse, LossTermType::crd, LossTermType::rkd_distance,
        LossTermType::rkd_angle, LossTermType::mmd, LossTermType::dkd, LossTermType::dist})
    terms.push_back({.type = type});
  return terms;
}

TEST_F(DeviceStep, GivesTheCoursesOfTheCpuAndWaitsOnceAStep) {
  for (const auto fusion : {FusionType::simple, FusionType::concat_mlp, FusionType::cross_attention, FusionType::gated,
                            FusionType::film, FusionType::transformer_concat, FusionType::gated_mlp}) {
    for (const auto& terms : {std::vector<LossTerm>(), all_terms()}) {
      const Recipe recipe{.fusion = fusion, .terms = terms};
      const Course on_cpu = train(at::kCPU, recipe);
      const Course on_device = train(kFakeDevice, recipe);
      expect_same_course(on_device, on_cpu);
      const std::int64_t steps = kSampleCount / recipe.samples_of_batch;  // of an epoch
      ASSERT_EQ(std::ssize(on_device.losses), kEpochs * steps);
      for (std::int64_t step = 0; step < kEpochs * steps; ++step) {
        if (step % steps == 0) continue;  // the end of the epoch before reads its losses
        EXPECT_EQ(on_device.host_reads[static_cast<std::size_t>(step)], 1) << "step " << step;  // was it a bad one?
      }
    }
  }
}

TEST_F(DeviceStep, GivesTheCoursesOfTheCpuToOtherStepsToo) {
  for (const Recipe& recipe :
       {Recipe{.family = TextFamily::distilbert, .samples_of_batch = 12}, Recipe{.family = TextFamily::roberta},
        Recipe{.family = TextFamily::custom_text}, Recipe{.fusion = FusionType::shomr},
        Recipe{.fusion = FusionType::modality_dropout}, Recipe{.micro_batch = 4},
        Recipe{.terms = all_terms(), .micro_batch = 4}, Recipe{.terms = all_terms(), .gradient_checkpointing = true}}) {
    expect_same_course(train(kFakeDevice, recipe), train(at::kCPU, recipe));
  }
}

TEST_F(DeviceStep, RecordedStepsAreTheSame) {
  for (const auto family : {TextFamily::bert, TextFamily::distilbert, TextFamily::roberta}) {
    for (const auto& terms : {std::vector<LossTerm>(), all_terms()}) {
      const Recipe recipe{.family = family, .terms = terms};
      const auto recorded = record(recipe);
      expect_same_course(recorded.course, train(kFakeDevice, recipe));
      EXPECT_GT(recorded.graphs, 0) << static_cast<int>(family);
    }
  }
}

TEST_F(DeviceStep, LiveTeachersAreRecordedToo) {
  for (const auto teacher : {FusionType::simple, FusionType::energy_aware_adaptive}) {
    const Recipe recipe{.terms = {{.type = LossTermType::kl}, {.type = LossTermType::dist}}, .live_teacher = teacher};
    const Course eager = train(kFakeDevice, recipe);
    expect_same_course(eager, train(at::kCPU, recipe));
    const auto recorded = record(recipe);
    expect_same_course(recorded.course, eager);
    EXPECT_GT(recorded.graphs, 0) << static_cast<int>(teacher);
  }
}

/// The last batch of an epoch is smaller.
TEST_F(DeviceStep, EachSizeHasAGraphOfItsOwn) {
  const Recipe recipe{.samples_of_batch = 12};
  const auto recorded = record(recipe);
  expect_same_course(recorded.course, train(kFakeDevice, recipe));
  EXPECT_GE(recorded.graphs, 1);
}

/// Its routes are drawn on the host.
TEST_F(DeviceStep, WhatCannotBeRecordedIsComputed) {
  const Recipe recipe{.fusion = FusionType::modality_dropout};
  const auto recorded = record(recipe);
  expect_same_course(recorded.course, train(kFakeDevice, recipe));
  EXPECT_EQ(recorded.graphs, 0);
}

class Refusing final : public DeviceGraph {
 public:
  void begin() override { throw Error("this device has no graphs"); }
  void end() override {}
  void replay() override {}
};

TEST_F(DeviceStep, ADeviceThatRefusesIsGivenStepByStep) {
  const Course eager = train(kFakeDevice, {});
  expect_same_course(train(kFakeDevice, {}, [] { return std::make_unique<Refusing>(); }), eager);
}

}  // namespace
}  // namespace mmkd
