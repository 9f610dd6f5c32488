#include "mmkd/train/trainer.h"

#include <cmath>

#include "mmkd/base/error.h"
#include "mmkd/comm/agree.h"
#include "mmkd/models/multimodal_model.h"
#include "tests/mpi/dist/world_fixture.h"
#include "tests/support/resident_memory.h"
#include "tests/support/temp_folder.h"
#include "tests/train/memory_source.h"

namespace mmkd::test {
namespace {

ModelSpec text_model() {
  ModelSpec spec;
  spec.modality = Modality::text;
  spec.text.vocab_size = 300;
  spec.text.hidden_size = 12;
  spec.text.num_hidden_layers = 1;
  spec.text.num_attention_heads = 3;
  spec.text.max_position_embeddings = 10;
  spec.fusion.dim = 8;
  spec.tasks = {{"parity", 2}, {"fifth", 5}};
  return spec;
}

/// A training of 4 steps an epoch whose steps can be spoiled.
class TrainerTest : public WorldTest {
 protected:
  struct Run {
    TrainOutcome outcome;
    std::map<std::string, at::Tensor> weights;
    std::vector<std::string> reports;
  };

  struct Options {
    std::int64_t max_bad_steps = 10;
    double spike_factor = 0;
    std::int64_t epochs = 2;
    bool host_sharing = true;
    bool resume = false;
    Precision precision = Precision::fp32;
    std::function<at::Tensor(const at::Tensor&)> hook = {};  ///< on the gradient of a bias
  };

  /// `before` is called after every step, which is before the next one; in it a rank may change its weights if it has
  /// some of its own (host_sharing: false).
  Run train(const std::function<void(std::int64_t step, MultimodalModel&)>& before, const Options& options) {
    const auto model = make_model(text_model(), 3);
    if (options.hook) {
      for (auto& item : model->named_parameters())
        if (item.key() == "head_parity.bias") item.value().register_hook(options.hook);
    }
    Objective objective({}, 0);
    const testing::MemorySource source(40);
    TrainerParts parts{.world = *world_, .model = *model, .objective = objective, .train = source, .assembler = {}};
    std::optional<CheckpointStore> store;
    if (rank() == 0) store.emplace(folder_.path() / "work", 2);
    parts.checkpoints = store ? &*store : nullptr;
    parts.assembler.student = testing::large_spec();
    parts.assembler.student->modality = Modality::text;
    TrainerSpec spec;
    spec.stage = "student";
    spec.epochs = options.epochs;
    spec.batch_size = 10;
    spec.num_workers = 1;
    spec.max_bad_steps = options.max_bad_steps;
    spec.spike_factor = options.spike_factor;
    spec.host_sharing = options.host_sharing;
    spec.precision = options.precision;
    TrainerHooks hooks;
    hooks.on_step = [&](const StepReport& report) { before(report.step, *model); };
    Run run;
    {
      Trainer trainer(parts, spec, std::move(hooks));
      if (options.resume) trainer.resume();
      run.outcome = trainer.run();
    }
    for (const auto& item : model->named_parameters()) run.weights[item.key()] = item.value().detach().clone();
    return run;
  }

  static void expect_same_weights(const Run& a, const Run& b) {
    for (const auto& [name, tensor] : a.weights) EXPECT_TRUE(same_bits(tensor, b.weights.at(name))) << name;
  }

  static at::Tensor bias(MultimodalModel& model) {
    for (const auto& entry : model.named_weights()) {
      if (entry.name == "head_parity.head.1.bias") return entry.view.detach();
    }
    throw Error("the model has no such head");
  }

  void expect_all_finite_and_the_same(const Run& run) {
    for (const auto& [name, tensor] : run.weights) {
      EXPECT_TRUE(at::isfinite(tensor).all().item<bool>()) << name;
      at::Tensor of_rank_zero = tensor.clone();
      world_->broadcast(of_rank_zero, 0);
      EXPECT_TRUE(same_bits(of_rank_zero, tensor)) << name;
    }
  }

  TempFolder folder_;
};

TEST_F(TrainerTest, AStepThatIsNotFiniteOnOneRankIsSkippedByAll) {
  // The last rank's copy of a weight is spoiled for the third step alone.
  at::Tensor kept;
  const auto spoil = [&](std::int64_t step, MultimodalModel& model) {
    if (rank() != size() - 1) return;
    const at::NoGradGuard no_grad;
    if (step == 2) {
      kept = bias(model).clone();
      bias(model).fill_(NAN);
    }
    if (step == 3) bias(model).copy_(kept);
  };
  const auto run = train(spoil, {.host_sharing = false});
  expect_all_finite_and_the_same(run);
  if (rank() == 0) {
    ASSERT_EQ(run.outcome.history.size(), 2U);
    for (const auto& row : run.outcome.history) EXPECT_TRUE(std::isfinite(row.at("train_loss").get<double>()));
  }
  // The step left nothing behind: the same as if it had never been, but for the count of steps.
  const auto undisturbed = train([](std::int64_t, MultimodalModel&) {}, {.host_sharing = false});
  bool differs = false;
  for (const auto& [name, tensor] : run.weights) differs = differs || !at::equal(tensor, undisturbed.weights.at(name));
  EXPECT_TRUE(differs) << "a step was left out";
}

TEST_F(TrainerTest, MoreBadStepsThanAllowedEndTheRunOnAllRanksNamingTheSamples) {
  const auto spoil = [&](std::int64_t step, MultimodalModel& model) {
    const at::NoGradGuard no_grad;
    if (rank() == size() - 1 && step == 1) bias(model).fill_(NAN);
  };
  try {
    (void)train(spoil, {.max_bad_steps = 2, .host_sharing = false});
    FAIL() << "nothing was thrown";
  } catch (const CollectiveError& e) {
    const std::string what = e.what();
    for (const auto& part : {std::string("step 4"), std::string("3 such steps"), std::string("max_bad_steps"),
                             fmt::format("rank {}: term 'total' is NaN", size() - 1), std::string("samples s"),
                             std::string("gradients of ")})
      EXPECT_NE(what.find(part), std::string::npos) << part << " in " << what;
  }
}

TEST_F(TrainerTest, SharingOneModelChangesNoBit) {
  const auto nothing = [](std::int64_t, MultimodalModel&) {};
  for (const auto precision : {Precision::fp32, Precision::bf16}) {
    const auto apart = train(nothing, {.host_sharing = false, .precision = precision});
    const auto shared = train(nothing, {.host_sharing = true, .precision = precision});
    expect_all_finite_and_the_same(shared);
    expect_same_weights(shared, apart);
    EXPECT_EQ(shared.outcome.history, apart.outcome.history);
  }
}

TEST_F(TrainerTest, GoesOnFromACheckpointWhicheverWayItWasMade) {
  const auto nothing = [](std::int64_t, MultimodalModel&) {};
  const auto whole = train(nothing, {.epochs = 4});
  for (const bool first : {true, false}) {
    for (const bool second : {true, false}) {
      (void)train(nothing, {.epochs = 2, .host_sharing = first});
      expect_same_weights(train(nothing, {.epochs = 4, .host_sharing = second, .resume = true}), whole);
    }
  }
}

TEST_F(TrainerTest, AGradientThatIsNotFiniteOnOneRankIsSkippedByAll) {
  for (const bool host_sharing : {true, false}) {
    std::int64_t done = 0;
    const auto count = [&](std::int64_t step, MultimodalModel&) { done = step; };
    const auto spoil = [&](const at::Tensor& gradient) {
      return rank() == size() - 1 && done == 2 ? gradient * NAN : gradient;
    };
    const auto run = train(count, {.host_sharing = host_sharing, .hook = spoil});
    expect_all_finite_and_the_same(run);
    done = 0;
    try {
      (void)train(count, {.max_bad_steps = 0, .host_sharing = host_sharing, .hook = spoil});
      FAIL() << "nothing was thrown";
    } catch (const CollectiveError& e) {
      const std::string what = e.what();
      for (const auto& part : {"step 3", "gradients of model.head_parity.bias"})
        EXPECT_NE(what.find(part), std::string::npos) << part << " in " << what;
    }
  }
}

TEST_F(TrainerTest, TwoThousandStepsNeedNoMoreMemoryThanTheFirst) {
  double early = 0, late = 0;
  const auto measure = [&](std::int64_t step, MultimodalModel&) {
    if (step == 400) early = resident_megabytes();
    if (step == 2400) late = resident_megabytes();
  };
  (void)train(measure, {.epochs = 600});
  EXPECT_GT(early, 0);
  EXPECT_LT(late - early, 6) << "megabytes in 2,000 steps with 500 checkpoints";
}

TEST_F(TrainerTest, ALossFarAboveTheMeanIsSkippedWhereAsked) {
  at::Tensor kept;
  const auto spoil = [&](std::int64_t step, MultimodalModel& model) {
    const at::NoGradGuard no_grad;
    if (step == 4) {
      kept = bias(model).clone();
      bias(model).copy_(at::tensor({1e4F, -1e4F}));
    }
    if (step == 5) {
      EXPECT_EQ(bias(model)[0].item<float>(), 1e4F) << "the step must change nothing";
      bias(model).copy_(kept);
    }
  };
  const auto run = train(spoil, {.spike_factor = 3.0, .host_sharing = false});
  expect_all_finite_and_the_same(run);
  if (rank() != 0) return;
  EXPECT_LT(run.outcome.history.at(1).at("train_loss").get<double>(), 10);
}

}  // namespace
}  // namespace mmkd::test
