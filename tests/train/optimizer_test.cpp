#include "mmkd/train/optimizer.h"

#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <torch/autograd.h>

#include <algorithm>
#include <cmath>

#include "mmkd/base/error.h"
#include "mmkd/dist/flat_tensors.h"
#include "tests/support/resident_memory.h"

namespace mmkd {
namespace {

/// Two parameters with gradients that depend on the step only.
struct Problem {
  std::vector<NamedTensor> parameters;
  Problem() {
    auto random = at::detail::createCPUGenerator(5);
    parameters.push_back({"layer.weight", at::randn({3, 17}, random).requires_grad_(true)});
    parameters.push_back({"layer.bias", at::randn({5}, random).requires_grad_(true)});
  }
  void set_gradients(std::uint64_t step) {
    auto random = at::detail::createCPUGenerator(1000 + step);
    for (auto& [name, tensor] : parameters) tensor.mutable_grad() = at::randn(tensor.sizes(), random);
  }
  void run(AdamW& optimizer, std::uint64_t first, std::uint64_t last) {
    for (std::uint64_t step = first; step < last; ++step) {
      set_gradients(step);
      optimizer.step(1e-2);
    }
  }
  std::vector<at::Tensor> values() const {
    std::vector<at::Tensor> values;
    for (const auto& parameter : parameters) values.push_back(parameter.tensor.detach().clone());
    return values;
  }
};

void expect_equal(const std::vector<at::Tensor>& a, const std::vector<at::Tensor>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) EXPECT_TRUE(at::equal(a[i], b[i])) << i;
}

std::vector<NamedTensor> copy_of(const std::vector<NamedTensor>& state) {
  std::vector<NamedTensor> copy;
  for (const auto& [name, tensor] : state) copy.push_back({name, tensor.clone()});
  return copy;
}

/// As a checkpoint does it.
void put(AdamW& optimizer, const std::vector<NamedTensor>& state) {
  optimizer.load_state([&](const NamedTensor& entry) -> const at::Tensor& {
    const auto found =
        std::find_if(state.begin(), state.end(), [&](const auto& item) { return item.name == entry.name; });
    if (found == state.end()) throw Error("no {}", entry.name);
    return found->tensor;
  });
}

at::Tensor parameter(std::vector<float> values, std::vector<float> gradient) {
  auto tensor = at::tensor(values).requires_grad_(true);
  tensor.mutable_grad() = at::tensor(gradient);
  return tensor;
}

TEST(AdamW, FirstStepMovesByTheRateAgainstTheGradientAfterDecay) {
  // m̂ = g and v̂ = g² in the first step: p(1 − lr·wd) − lr·sign(g)
  const auto p = parameter({1.0F, -2.0F}, {0.5F, -3.0F});
  AdamW optimizer({{"p", p}}, {.weight_decay = 0.1});
  EXPECT_FLOAT_EQ(optimizer.step(0.01).norm.item<float>(), std::hypot(0.5F, 3.0F));
  EXPECT_NEAR(p[0].item<double>(), 1.0 * (1 - 0.001) - 0.01, 1e-6);
  EXPECT_NEAR(p[1].item<double>(), -2.0 * (1 - 0.001) + 0.01, 1e-6);
}

TEST(AdamW, DecaysParametersWithZeroGradient) {
  const auto p = parameter({4.0F}, {0.0F});
  AdamW optimizer({{"p", p}}, {.weight_decay = 0.5});
  optimizer.step(0.1);
  EXPECT_NEAR(p[0].item<double>(), 4.0 * 0.95, 1e-6);
}

TEST(AdamW, WithRateZeroChangesNothing) {
  Problem problem;
  AdamW optimizer(problem.parameters, {});
  const auto before = problem.values();
  problem.set_gradients(0);
  optimizer.step(0.0);
  expect_equal(problem.values(), before);
}

TEST(AdamW, ReturnsTheGlobalNormBeforeClipping) {
  AdamW optimizer({{"a", parameter({0, 0}, {3, 0})}, {"b", parameter({0}, {-4})}}, {.clip_norm = 1.0});
  EXPECT_FLOAT_EQ(optimizer.step(0.1).norm.item<float>(), 5.0F);
}

TEST(AdamW, SkipsAStepWithAGradientThatIsNotFinite) {
  for (const float bad : {NAN, INFINITY}) {
    Problem problem, reference;
    AdamW optimizer(problem.parameters, {}), expected(reference.parameters, {});
    const auto one_step = [](Problem& p, AdamW& o, std::uint64_t number) {
      p.set_gradients(number);
      return o.step(0.1).skipped.item<float>();
    };
    EXPECT_EQ(one_step(problem, optimizer, 0), 0);
    problem.set_gradients(1);
    problem.parameters[0].tensor.mutable_grad().view(-1)[0] = bad;
    EXPECT_EQ(optimizer.step(0.1).skipped.item<float>(), 1);
    EXPECT_EQ(one_step(problem, optimizer, 2), 0);
    one_step(reference, expected, 0);
    one_step(reference, expected, 2);
    expect_equal(problem.values(), reference.values());
  }
}

TEST(AdamW, SkipsAStepWhenAsked) {
  Problem problem;
  AdamW optimizer(problem.parameters, {});
  const auto before = problem.values();
  problem.set_gradients(0);
  EXPECT_EQ(optimizer.step(0.1, at::ones({})).skipped.item<float>(), 1);
  expect_equal(problem.values(), before);
}

TEST(AdamW, ClipsAllGradientsByOneFactor) {
  const auto a = parameter({0, 0}, {3, 0}), b = parameter({0}, {-4});
  AdamW optimizer({{"a", a}, {"b", b}}, {.clip_norm = 1.0});
  optimizer.step(0.1);
  for (const auto& [name, tensor] : optimizer.state()) {  // exp_avg = (1 − beta1) · clipped gradient
    if (name == "exp_avg.a") {
      EXPECT_NEAR(tensor[0].item<double>(), 0.1 * 0.6, 1e-6);
    }
    if (name == "exp_avg.b") {
      EXPECT_NEAR(tensor[0].item<double>(), -0.1 * 0.8, 1e-6);
    }
  }
}

TEST(AdamW, ClippingThatIsNotNeededChangesNoBit) {
  Problem plain, clipped;
  AdamW without(plain.parameters, {}), with(clipped.parameters, {.clip_norm = 1e6});
  plain.run(without, 0, 3);
  clipped.run(with, 0, 3);
  expect_equal(clipped.values(), plain.values());
}

TEST(AdamW, ContinuesBitForBitFromASavedState) {
  Problem uninterrupted;
  AdamW optimizer(uninterrupted.parameters, {.clip_norm = 1.0});
  uninterrupted.run(optimizer, 0, 3);
  const auto state = copy_of(optimizer.state());
  const auto values = uninterrupted.values();
  uninterrupted.run(optimizer, 3, 7);

  Problem resumed;
  AdamW restored(resumed.parameters, {.clip_norm = 1.0});
  {
    const at::NoGradGuard no_grad;
    for (std::size_t i = 0; i < values.size(); ++i) resumed.parameters[i].tensor.copy_(values[i]);
  }
  put(restored, state);
  resumed.run(restored, 3, 7);
  expect_equal(resumed.values(), uninterrupted.values());
}

TEST(AdamW, GradientsInOneBlockGiveWhatSeparateOnesGive) {
  Problem together, apart;
  AdamW one(together.parameters, {.clip_norm = 1.0}), many(apart.parameters, {.clip_norm = 1.0});
  std::vector<at::Tensor> tensors;
  for (const auto& parameter : together.parameters) tensors.push_back(parameter.tensor);
  const auto flat = FlatTensors::zeros_like(tensors);
  for (std::uint64_t step = 0; step < 5; ++step) {
    apart.set_gradients(step);
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      flat.parts[i].copy_(apart.parameters[i].tensor.grad());
      tensors[i].mutable_grad() = flat.parts[i];
    }
    EXPECT_EQ(one.step(1e-2).norm.item<float>(), many.step(1e-2).norm.item<float>());
  }
  for (std::size_t i = 0; i < tensors.size(); ++i) EXPECT_TRUE(tensors[i].equal(apart.parameters[i].tensor)) << i;
  one.zero_grad();
  EXPECT_EQ(flat.block.abs().sum().item<float>(), 0);
}

/// A matrix of which every step uses some rows, with its optimizer.
struct Table {
  at::Tensor values = at::linspace(-1, 1, 60 * 7).reshape({60, 7}).set_requires_grad(true);
  AdamW optimizer;

  explicit Table(double clip_norm) : optimizer({{"table", values}}, {.weight_decay = 0.1, .clip_norm = clip_norm}) {
    values.mutable_grad() = at::zeros_like(values.detach());
  }

  /// Step `step`; with `tells` the optimizer is told which rows have gradients. In the order of ranks, not sorted.
  at::Tensor use(std::int64_t step, bool tells) {
    const at::Tensor rows = (at::arange(9, at::kLong).flip(0) * 5 + step) % (step < 4 ? 20 : 60);
    values.mutable_grad().zero_();
    values.mutable_grad().index_put_({rows}, at::sin(at::arange(9 * 7).reshape({9, 7}) + static_cast<double>(step)));
    const auto rows_of = [&](const at::Tensor& parameter) -> std::optional<at::Tensor> {
      EXPECT_TRUE(parameter.is_same(values));
      return rows;
    };
    return optimizer.step(1e-2, {}, tells ? AdamW::RowsOf(rows_of) : AdamW::RowsOf()).norm;
  }
};

TEST(AdamW, KnowingTheRowsOfATableChangesNoBit) {
  for (const double clip_norm : {0.0, 0.5}) {
    Table plain(clip_norm), told(clip_norm);
    for (std::int64_t step = 0; step < 8; ++step) {
      EXPECT_TRUE(plain.use(step, false).equal(told.use(step, true)));
      ASSERT_TRUE(plain.values.equal(told.values)) << step;
    }
    // Rows that have moments are known again after a restart.
    Table restarted(clip_norm);
    restarted.values.set_data(restarted.values.detach());
    {
      const at::NoGradGuard no_grad;
      restarted.values.copy_(plain.values);
    }
    put(restarted.optimizer, plain.optimizer.state());
    for (std::int64_t step = 8; step < 11; ++step) {
      plain.use(step, false);
      restarted.use(step, step != 9);  // once all rows are taken to have gradients
      ASSERT_TRUE(plain.values.equal(restarted.values)) << step;
    }
  }
}

TEST(AdamW, WritesTheCopiesInBfloat16Too) {
  Problem plain, copied;
  AdamW without(plain.parameters, {.weight_decay = 0.1, .clip_norm = 1.0}),
      with(copied.parameters, {.weight_decay = 0.1, .clip_norm = 1.0});
  std::vector<at::Tensor> copies;
  for (const auto& parameter : copied.parameters)
    copies.push_back(parameter.tensor.detach().to(at::kBFloat16).contiguous());
  const auto narrow = [&](const at::Tensor& parameter) {
    for (std::size_t i = 1; i < copies.size(); ++i)
      if (copied.parameters[i].tensor.is_same(parameter)) return copies[i];
    return at::Tensor();  // of the first
  };
  for (std::uint64_t step = 0; step < 5; ++step) {
    plain.set_gradients(step);
    copied.set_gradients(step);
    without.step(1e-2);
    with.step(1e-2, {}, {}, narrow);
    for (std::size_t i = 1; i < copies.size(); ++i)
      EXPECT_TRUE(copies[i].equal(copied.parameters[i].tensor.detach().to(at::kBFloat16))) << step << " " << i;
  }
  expect_equal(copied.values(), plain.values());
}

TEST(AdamW, LeavesMemoryOfMomentsAloneThatNeverComeToBe) {
  const at::Tensor table = at::zeros({5000, 1024}).requires_grad_(true);
  AdamW optimizer({{"table", table}}, {.weight_decay = 0.0});
  table.mutable_grad() = FlatTensors::zeros_like({table}).parts[0];
  const at::Tensor rows = at::tensor({3, 4999}, at::kLong);
  table.mutable_grad().index_fill_(0, rows, 0.5);
  optimizer.step(1e-2, {}, [&](const at::Tensor&) { return std::optional(rows); });
  const auto resident = [](const at::Tensor& x) {
    constexpr std::size_t kPage = 4096;
    std::vector<unsigned char> pages((x.nbytes() + kPage - 1) / kPage);
    EXPECT_EQ(mincore(x.data_ptr(), x.nbytes(), pages.data()), 0);
    return std::count_if(pages.begin(), pages.end(), [](unsigned char page) { return (page & 1) != 0; });
  };
  const auto moments = [&] { return optimizer.state().at(1).tensor; };
  EXPECT_EQ(moments()[3][0].item<float>(), 0.5F * 0.1F);
  EXPECT_LT(resident(moments()), 16);
  EXPECT_LT(resident(table.grad()), 16);
  // Nor does a restart make them.
  const at::Tensor again = at::zeros({5000, 1024}).requires_grad_(true);
  AdamW restarted({{"table", again}}, {.weight_decay = 0.0});
  const double before = test::resident_megabytes();
  put(restarted, optimizer.state());
  EXPECT_LT(test::resident_megabytes() - before, 10) << "of 41 that the moments could have";
  EXPECT_TRUE(at::equal(restarted.state().at(1).tensor, moments()));
}

TEST(AdamW, GivesWhatTorchGives) {
  for (const double clip_norm : {0.0, 1.0}) {
    Problem own, torchs;
    AdamW optimizer(own.parameters, {.weight_decay = 0.02, .clip_norm = clip_norm});
    std::vector<at::Tensor> values, m, v, steps;
    for (const auto& parameter : torchs.parameters) {
      values.push_back(parameter.tensor.detach());
      m.push_back(at::zeros_like(values.back()));
      v.push_back(at::zeros_like(values.back()));
      steps.push_back(at::zeros({}));
    }
    for (std::uint64_t step = 0; step < 20; ++step) {
      own.set_gradients(step);
      torchs.set_gradients(step);
      std::vector<at::Tensor> gradients;
      for (const auto& parameter : torchs.parameters) gradients.push_back(parameter.tensor.grad());
      const double norm = at::linalg_vector_norm(at::stack(at::_foreach_norm(gradients)), 2).item<double>();
      EXPECT_NEAR(optimizer.step(1e-2).norm.item<double>(), norm, 1e-5 * norm);
      if (clip_norm > 0) at::_foreach_div_(gradients, std::max(1.0, (norm + 1e-6) / clip_norm));
      at::_foreach_add_(steps, 1);
      at::_fused_adamw_(values, gradients, m, v, {}, steps, 1e-2, 0.9, 0.999, 0.02, 1e-8, false, false);
    }
    for (std::size_t i = 0; i < values.size(); ++i)
      EXPECT_TRUE(at::allclose(own.parameters[i].tensor, values[i], 1e-5, 1e-6)) << i;
  }
}

TEST(AdamW, NamesItsStateAfterTheParameters) {
  Problem problem;
  std::vector<std::string> names;
  for (const auto& entry : AdamW(problem.parameters, {}).state()) names.push_back(entry.name);
  EXPECT_EQ(names, (std::vector<std::string>{"step", "exp_avg.layer.weight", "exp_avg_sq.layer.weight",
                                             "exp_avg.layer.bias", "exp_avg_sq.layer.bias"}));
}

TEST(AdamW, ZerosGradientsInPlace) {
  Problem problem;
  AdamW optimizer(problem.parameters, {});
  optimizer.zero_grad();  // nothing there yet
  problem.set_gradients(0);
  const auto* address = problem.parameters[0].tensor.grad().const_data_ptr();
  optimizer.zero_grad();
  EXPECT_EQ(problem.parameters[0].tensor.grad().const_data_ptr(), address);
  EXPECT_EQ(problem.parameters[0].tensor.grad().abs().max().item<double>(), 0.0);
}

TEST(AdamW, NamesAParameterWithoutGradient) {
  Problem problem;
  AdamW optimizer(problem.parameters, {});
  problem.set_gradients(0);
  problem.parameters[1].tensor.mutable_grad() = at::Tensor();
  try {
    optimizer.step(0.1);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("layer.bias"), std::string::npos) << error.what();
  }
}

TEST(AdamW, RefusesParametersThatItCannotKeepApartOrTrain) {
  const auto p = at::zeros({2});
  EXPECT_THROW(AdamW({}, {}), Error);
  EXPECT_THROW(AdamW({{"p", p}, {"p", at::zeros({2})}}, {}), Error);
  EXPECT_THROW(AdamW({{"p", p.to(at::kBFloat16)}}, {}), Error);
}

}  // namespace
}  // namespace mmkd
