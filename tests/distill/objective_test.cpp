#include "mmkd/distill/objective.h"

#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>
#include <torch/autograd.h>

#include <cmath>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "mmkd/base/error.h"
#include "tests/distill/thread_world.h"

namespace mmkd {
namespace {

constexpr std::int64_t kInputs = 6, kWidth = 5, kTeacherImg = 7, kTeacherTxt = 4;
const std::vector<std::int64_t> kClasses{3, 4, 2};  // of three tasks

/// Everything about a few samples: inputs of the student, labels, and what the teacher said about them.
struct Samples {
  at::Tensor x;  // [B, kInputs]
  std::vector<at::Tensor> labels;
  TeacherOutputs teacher;

  Samples rows(std::int64_t begin, std::int64_t count) const {
    const auto cut = [&](const at::Tensor& t) { return t.narrow(0, begin, count); };
    Samples part{cut(x), {}, {cut(teacher.img_raw), cut(teacher.txt_raw), {}, {}, {}}};
    for (const auto& label : labels) part.labels.push_back(cut(label));
    for (const auto& logits : teacher.logits) part.teacher.logits.push_back(cut(logits));
    return part;
  }
};

Samples make_samples(std::int64_t count) {
  auto random = at::detail::createCPUGenerator(7);
  const auto normal = [&](std::int64_t width) { return at::randn({count, width}, random); };
  Samples samples{normal(kInputs), {}, {normal(kTeacherImg), normal(kTeacherTxt), {}, {}, {}}};
  for (const auto classes : kClasses) {
    samples.labels.push_back(at::randint(classes, {count}, random, at::kLong));
    samples.teacher.logits.push_back(normal(classes) * 3.0);
  }
  return samples;
}

/// A linear student: every output is its own matrix times x. The same weights wherever it is made.
struct Student {
  std::vector<at::Tensor> weights;
  Student() {
    auto random = at::detail::createCPUGenerator(11);
    auto widths = kClasses;
    widths.insert(widths.end(), {kWidth, kWidth});
    for (const auto width : widths) weights.push_back(at::randn({kInputs, width}, random).requires_grad_(true));
  }
  ModelOutput operator()(const at::Tensor& x) const {
    ModelOutput output;
    for (std::size_t task = 0; task < kClasses.size(); ++task) output.logits.push_back(at::mm(x, weights[task]));
    output.img_proj = at::mm(x, weights[kClasses.size()]);
    output.txt_proj = at::mm(x, weights[kClasses.size() + 1]);
    return output;
  }
};

LossTerm weighted(LossTermType type, double weight) {
  LossTerm term = default_term(type);
  term.weight = weight;
  return term;
}

/// The losses by name: the presets with constants of their own, and newer terms.
std::vector<LossTerm> terms_named(const std::string& name) {
  using enum LossTermType;
  LossTerm soft = weighted(kl, 1), contrast = weighted(crd, 2), fixed = weighted(mmd, 1);
  soft.T = 3;
  contrast.tau = 0.2;
  fixed.bandwidth = MmdBandwidth::fixed;
  const LossTerm task = weighted(ce, 0.7);
  if (name == "ce_only") return {task};
  if (name == "vanilla") return {task, soft, weighted(mse, 10)};
  if (name == "combined") return {task, soft, weighted(mse, 10), contrast};
  if (name == "crd") return {task, contrast};
  if (name == "rkd") return {task, weighted(rkd_distance, 25), weighted(rkd_angle, 50)};
  if (name == "mmd") return {task, weighted(mmd, 1)};
  if (name == "mmd_fixed") return {task, fixed};
  if (name == "dkd") return {task, weighted(dkd, 0.5)};
  if (name == "dist") return {task, weighted(dist, 2)};
  if (name == "everything") {
    return {task,
            soft,
            weighted(mse, 1),
            contrast,
            weighted(rkd_distance, 1),
            weighted(rkd_angle, 1),
            weighted(mmd, 1),
            weighted(dkd, 1),
            weighted(dist, 1)};
  }
  throw std::runtime_error("no loss is called " + name);
}

ObjectiveSpec spec_of(const std::string& name) {
  return {.terms = terms_named(name),
          .teacher_img_width = kTeacherImg,
          .teacher_txt_width = kTeacherTxt,
          .student_width = kWidth};
}

struct Result {
  at::Tensor terms;                   // summed over the ranks
  std::vector<at::Tensor> gradients;  // of student and projections, averaged over the ranks
};

/// What W ranks make of one global batch, each with its own copies of student and objective.
Result run(const ObjectiveSpec& spec, const Samples& samples, int world_size) {
  Result result;
  std::mutex mutex;
  testing::run_ranks(world_size, [&](const World& world) {
    const BatchShares shares{.global_count = samples.x.size(0), .world = world.size()};
    const auto count = shares.rows_of(world.rank());
    // The filler of a rank without rows is the first sample, as the loader makes it.
    const auto local = count > 0 ? samples.rows(shares.begin_of(world.rank()), count) : samples.rows(0, 1);
    const Student student;
    const Objective objective(spec, 3);
    const auto value = objective.evaluate(student(local.x), &local.teacher, local.labels, shares, world);
    value.total_for_backward.backward();
    auto parameters = student.weights;
    for (const auto& parameter : objective.parameters()) parameters.push_back(parameter);

    const std::scoped_lock lock(mutex);
    result.terms = result.terms.defined() ? result.terms + value.terms : value.terms;
    if (result.gradients.empty()) {
      for (const auto& parameter : parameters) result.gradients.push_back(at::zeros_like(parameter));
    }
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      if (parameters[i].grad().defined()) result.gradients[i] += parameters[i].grad() / world.size();
    }
  });
  return result;
}

double largest_difference(const at::Tensor& got, const at::Tensor& want) {
  return ((got - want).abs().max() / want.abs().max().clamp_min(1.0)).item<double>();
}

class ObjectiveOfType : public ::testing::TestWithParam<const char*> {};

TEST_P(ObjectiveOfType, GivesTheSameTermsAndGradientsForAnyNumberOfRanks) {
  for (const std::int64_t batch : {2, 7, 8}) {  // fewer rows than ranks, uneven shares, even shares
    const auto samples = make_samples(batch);
    const auto alone = run(spec_of(GetParam()), samples, 1);
    for (const int world : {2, 3, 4}) {
      const auto spread = run(spec_of(GetParam()), samples, world);
      EXPECT_LT(largest_difference(spread.terms, alone.terms), 1e-5) << batch << " rows, " << world << " ranks";
      ASSERT_EQ(spread.gradients.size(), alone.gradients.size());
      for (std::size_t i = 0; i < alone.gradients.size(); ++i) {
        EXPECT_LT(largest_difference(spread.gradients[i], alone.gradients[i]), 1e-5)
            << batch << " rows, " << world << " ranks, parameter " << i;
      }
    }
  }
}

TEST_P(ObjectiveOfType, TotalIsTheWeightedSumOfItsTerms) {
  const auto terms = run(spec_of(GetParam()), make_samples(5), 1).terms;
  const auto spec = spec_of(GetParam());
  ASSERT_EQ(terms.numel(), static_cast<std::int64_t>(spec.terms.size()) + 1);
  double total = 0;
  for (std::size_t i = 0; i < spec.terms.size(); ++i)
    total += spec.terms[i].weight * terms[static_cast<std::int64_t>(i) + 1].item<double>();
  EXPECT_NEAR(terms[0].item<double>(), total, 1e-5 * std::abs(total));
}

TEST_P(ObjectiveOfType, OfOneSampleIsFiniteWithFiniteGradients) {
  const auto result = run(spec_of(GetParam()), make_samples(1), 1);
  EXPECT_TRUE(result.terms.isfinite().all().item<bool>()) << result.terms;
  for (const auto& gradient : result.gradients) EXPECT_TRUE(gradient.isfinite().all().item<bool>());
}

TEST_P(ObjectiveOfType, OfDuplicatesAndZeroRowsIsFiniteWithFiniteGradients) {
  auto samples = make_samples(4);
  samples.x[1].copy_(samples.x[0]);
  samples.x[2].zero_();
  for (auto* tensor : {&samples.teacher.img_raw, &samples.teacher.txt_raw}) {
    (*tensor)[1].copy_((*tensor)[0]);
    (*tensor)[2].zero_();
  }
  const auto result = run(spec_of(GetParam()), samples, 1);
  EXPECT_TRUE(result.terms.isfinite().all().item<bool>()) << result.terms;
  for (const auto& gradient : result.gradients) EXPECT_TRUE(gradient.isfinite().all().item<bool>());
}

TEST_P(ObjectiveOfType, EveryRegisteredParameterGetsAGradient) {
  const auto samples = make_samples(5);
  testing::run_ranks(1, [&](const World& world) {
    const Student student;
    const Objective objective(spec_of(GetParam()), 3);
    const auto value = objective.evaluate(student(samples.x), &samples.teacher, samples.labels,
                                          {.global_count = 5, .world = 1}, world);
    value.total_for_backward.backward();
    for (const auto& parameter : objective.named_parameters()) {
      ASSERT_TRUE(parameter.value().grad().defined()) << parameter.key();
      EXPECT_GT(parameter.value().grad().abs().max().item<double>(), 0.0) << parameter.key();
    }
  });
}

std::string type_name(const ::testing::TestParamInfo<const char*>& parameter) { return parameter.param; }

INSTANTIATE_TEST_SUITE_P(AllTypes, ObjectiveOfType,
                         ::testing::Values("ce_only", "vanilla", "combined", "crd", "rkd", "mmd", "mmd_fixed", "dkd",
                                           "dist", "everything"),
                         type_name);

TEST(Objective, OfOneModalityComparesThatOne) {
  auto spec = spec_of("combined");
  spec.modality = Modality::image;
  spec.teacher_txt_width = 0;
  const auto samples = make_samples(6);
  testing::run_ranks(1, [&](const World& world) {
    const Objective objective(spec, 3);
    EXPECT_EQ(objective.named_weights().size(), 2U);
    auto output = Student()(samples.x);
    output.txt_proj = at::Tensor();
    const auto one =
        objective.evaluate(output, &samples.teacher, samples.labels, {.global_count = 6, .world = 1}, world);
    EXPECT_TRUE(one.terms.isfinite().all().item<bool>());
    const auto projected = objective.project(samples.teacher);
    EXPECT_FALSE(projected.txt.defined());
    const double mse = (output.img_proj - projected.img).square().mean().item<double>();
    EXPECT_NEAR(one.terms[3].item<double>(), mse, 1e-5 * mse);
  });
}

TEST(Objective, AddsTheEnergyPenaltyOfTheGlobalBatch) {
  auto spec = spec_of("ce_only");
  spec.energy = true;
  const auto samples = make_samples(7);
  const auto energies = at::linspace(5, 15, 7);  // mean 10: the penalty is 0.02
  for (const int world_size : {1, 2, 3}) {
    std::mutex mutex;
    at::Tensor terms;
    at::Tensor gradient = at::zeros({7});
    testing::run_ranks(world_size, [&](const World& world) {
      const BatchShares shares{.global_count = 7, .world = world.size()};
      const auto begin = shares.begin_of(world.rank()), count = shares.rows_of(world.rank());
      const auto local = samples.rows(begin, count);
      const Objective objective(spec, 3);
      EXPECT_TRUE(objective.relational());
      EXPECT_FALSE(objective.needs_teacher());
      auto output = Student()(local.x);
      output.energy = energies.narrow(0, begin, count).clone().requires_grad_(true);
      const auto value = objective.evaluate(output, nullptr, local.labels, shares, world);
      value.total_for_backward.backward();
      const std::scoped_lock lock(mutex);
      terms = terms.defined() ? terms + value.terms : value.terms;
      gradient.narrow(0, begin, count).copy_(output.energy.grad() / world.size());
    });
    EXPECT_NEAR(terms[2].item<double>(), 0.02, 1e-6) << world_size;
    EXPECT_LT((gradient - 0.01 / 7).abs().max().item<double>(), 1e-8) << world_size;
  }
}

TEST(Objective, FrozenProjectionsAreNotTrained) {
  auto spec = spec_of("vanilla");
  spec.projection = ProjectionMode::frozen;
  const Objective objective(spec, 3);
  for (const auto& parameter : objective.parameters()) EXPECT_FALSE(parameter.requires_grad());
}

TEST(Objective, NumbersTermsOfOneKind) {
  auto spec = spec_of("vanilla");
  auto second = default_term(LossTermType::kl);
  second.T = 8;
  spec.terms.push_back(second);
  EXPECT_EQ(Objective(spec, 0).term_names(), (std::vector<std::string>{"total", "ce", "kl", "mse", "kl_2"}));
}

TEST(Objective, SumsTheBatchMeanOfCrossEntropyOverTheTasks) {
  testing::run_ranks(1, [](const World& world) {
    ModelOutput output;
    output.logits = {at::zeros({2, 2}), at::zeros({2, 4})};  // uniform: ln 2 and ln 4 for every row
    const std::vector<at::Tensor> labels{at::zeros({2}, at::kLong), at::ones({2}, at::kLong)};
    const Objective objective(ObjectiveSpec{}, 0);
    const auto value = objective.evaluate(output, nullptr, labels, {.global_count = 2, .world = 1}, world);
    EXPECT_EQ(objective.term_names(), (std::vector<std::string>{"total", "ce"}));
    EXPECT_NEAR(value.terms[1].item<double>(), std::log(8.0), 1e-6);
    EXPECT_NEAR(value.total_for_backward.item<double>(), std::log(8.0), 1e-6);
  });
}

TEST(Objective, MicroBatchesOfARowWiseLossAddUp) {
  const auto samples = make_samples(5);
  testing::run_ranks(1, [&](const World& world) {
    const BatchShares shares{.global_count = 5, .world = 1};
    const Objective objective(spec_of("vanilla"), 3);
    const auto evaluate = [&](const Student& student, std::int64_t begin, std::int64_t count) {
      const auto part = samples.rows(begin, count);
      const auto value = objective.evaluate(student(part.x), &part.teacher, part.labels, shares, world);
      value.total_for_backward.backward();
      return value.terms;
    };
    const Student whole, parts;
    const auto terms = evaluate(whole, 0, 5);
    EXPECT_LT(largest_difference(evaluate(parts, 0, 2) + evaluate(parts, 2, 3), terms), 1e-6);
    for (std::size_t i = 0; i < whole.weights.size(); ++i) {
      EXPECT_LT(largest_difference(parts.weights[i].grad(), whole.weights[i].grad()), 1e-6) << i;
    }
  });
}

TEST(Objective, RefusesMicroBatchesOfARelationalLoss) {
  const auto samples = make_samples(5);
  testing::run_ranks(1, [&](const World& world) {
    const Objective objective(spec_of("combined"), 3);
    EXPECT_TRUE(objective.relational());
    const auto part = samples.rows(0, 2);
    EXPECT_THROW(
        objective.evaluate(Student()(part.x), &part.teacher, part.labels, {.global_count = 5, .world = 1}, world),
        Error);
  });
}

TEST(Objective, RegistersProjectionsOnlyWhereALossUsesThem) {
  const auto parameters = [](ObjectiveSpec spec) { return Objective(spec, 0).parameters().size(); };
  EXPECT_EQ(parameters(spec_of("ce_only")), 0U);
  EXPECT_EQ(parameters(spec_of("rkd")), 0U);
  EXPECT_EQ(parameters(spec_of("vanilla")), 4U);
  auto logits_only = spec_of("vanilla");
  logits_only.terms.pop_back();
  EXPECT_EQ(parameters(logits_only), 0U);
  EXPECT_EQ(Objective(logits_only, 0).term_names(), (std::vector<std::string>{"total", "ce", "kl"}));
}

TEST(Objective, InitialisesProjectionsFromTheSeedLikeALinearLayer) {
  const auto weights = [](std::uint64_t seed) { return Objective(spec_of("mmd"), seed).named_weights(); };
  const auto first = weights(3), again = weights(3), other = weights(4);
  ASSERT_EQ(first.size(), 4U);
  EXPECT_EQ(first[0].name, "proj_img.weight");
  EXPECT_EQ(first[1].name, "proj_img.bias");
  EXPECT_EQ(first[2].name, "proj_txt.weight");
  EXPECT_EQ(first[3].name, "proj_txt.bias");
  EXPECT_EQ(first[0].view.sizes(), (std::vector<std::int64_t>{kWidth, kTeacherImg}));
  for (std::size_t i = 0; i < first.size(); ++i) {
    EXPECT_TRUE(at::equal(first[i].view, again[i].view));
    EXPECT_FALSE(at::equal(first[i].view, other[i].view));
    const double bound = 1.0 / std::sqrt(static_cast<double>(i < 2 ? kTeacherImg : kTeacherTxt));
    EXPECT_LE(first[i].view.abs().max().item<double>(), bound);
  }
}

TEST(Objective, GivesNoGradientToTheTeacher) {
  auto samples = make_samples(4);
  samples.teacher.img_raw.requires_grad_(true);
  samples.teacher.logits[0].requires_grad_(true);
  testing::run_ranks(1, [&](const World& world) {
    const Objective objective(spec_of("combined"), 3);
    const auto value = objective.evaluate(Student()(samples.x), &samples.teacher, samples.labels,
                                          {.global_count = 4, .world = 1}, world);
    value.total_for_backward.backward();
    EXPECT_FALSE(samples.teacher.img_raw.grad().defined());
    EXPECT_FALSE(samples.teacher.logits[0].grad().defined());
  });
}

TEST(Objective, TakesTeacherFeaturesInHalfPrecision) {
  auto samples = make_samples(4);
  auto rounded = samples.teacher;
  rounded.img_raw = rounded.img_raw.to(at::kHalf);
  samples.teacher.img_raw = rounded.img_raw.to(at::kFloat);
  testing::run_ranks(1, [&](const World& world) {
    const Objective objective(spec_of("combined"), 3);
    const BatchShares shares{.global_count = 4, .world = 1};
    const auto half = objective.evaluate(Student()(samples.x), &rounded, samples.labels, shares, world);
    const auto full = objective.evaluate(Student()(samples.x), &samples.teacher, samples.labels, shares, world);
    EXPECT_TRUE(at::equal(half.terms, full.terms));
  });
}

TEST(Objective, NamesWhatDoesNotFit) {
  const auto samples = make_samples(4);
  testing::run_ranks(1, [&](const World& world) {
    const BatchShares shares{.global_count = 4, .world = 1};
    const Objective objective(spec_of("vanilla"), 3);
    const auto output = Student()(samples.x);
    EXPECT_THROW(objective.evaluate(output, nullptr, samples.labels, shares, world), Error);
    EXPECT_THROW(objective.evaluate(output, &samples.teacher, std::vector{samples.labels[0]}, shares, world), Error);
    auto narrow = samples.teacher;
    narrow.img_raw = narrow.img_raw.narrow(1, 0, 2);
    EXPECT_THROW(objective.evaluate(output, &narrow, samples.labels, shares, world), Error);
    EXPECT_THROW(objective.evaluate(output, &samples.teacher, samples.labels, {.global_count = 4, .world = 2}, world),
                 Error);
  });
  auto without_width = spec_of("vanilla");
  without_width.teacher_txt_width = 0;
  EXPECT_THROW(Objective(without_width, 0), Error);
}

}  // namespace
}  // namespace mmkd
