#include "mmkd/nn/convolution.h"

#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>

#include <barrier>
#include <thread>

#include "mmkd/base/error.h"
#include "mmkd/nn/init.h"
#include "tests/support/gradient_check.h"

namespace mmkd::nn {
namespace {

constexpr double kEps = 1e-3;
constexpr std::int64_t kChannels = 3;

at::Tensor random(std::uint64_t seed, at::IntArrayRef shape) {
  auto generator = at::detail::createCPUGenerator(seed);
  return at::randn(shape, generator, at::kFloat);
}

/// The ranks of a batch as threads.
class ThreadRanks {
 public:
  explicit ThreadRanks(int size) : slots_(static_cast<std::size_t>(size)), barrier_(size) {}

  class Rank final : public BatchRanks {
   public:
    Rank(ThreadRanks& all, std::size_t rank) : all_(all), rank_(rank) {}
    at::Tensor all_gather(const at::Tensor& values) const override {
      all_.slots_[rank_] = values.detach();
      all_.barrier_.arrive_and_wait();
      at::Tensor gathered = at::stack(all_.slots_);
      all_.barrier_.arrive_and_wait();
      return gathered;
    }

   private:
    ThreadRanks& all_;
    std::size_t rank_;
  };

 private:
  std::vector<at::Tensor> slots_;
  std::barrier<> barrier_;
};

std::shared_ptr<BatchNorm2d> filled(BatchNormMode mode = BatchNormMode::sync) {
  auto norm = std::make_shared<BatchNorm2d>(kChannels, kEps, mode);
  std::vector<WeightEntry> entries;
  norm->collect_weights("", entries);
  initialize(entries, 1);
  const at::NoGradGuard no_grad;
  entries[0].view.copy_(at::tensor({1.5F, -0.5F, 2.0F}));  // weight
  entries[1].view.copy_(at::tensor({0.1F, 0.2F, -0.3F}));  // bias
  return norm;
}

struct Trained {
  at::Tensor y, dx, dweight, dbias, running_mean, running_var;
};

/// One training step of W ranks on a batch; rank r has rows [begins[r], begins[r + 1]). A rank without rows runs the
/// first row as a filler, whose gradient from above is 0.
Trained train(const at::Tensor& x, const at::Tensor& g, const std::vector<std::int64_t>& begins) {
  const auto ranks = begins.size() - 1;
  ThreadRanks all(static_cast<int>(ranks));
  Trained result{at::empty_like(x), at::empty_like(x), at::zeros({kChannels}), at::zeros({kChannels}), {}, {}};
  std::mutex mutex;
  std::vector<std::jthread> threads;
  for (std::size_t r = 0; r < ranks; ++r) {
    threads.emplace_back([&, r] {
      const std::int64_t begin = begins[r], rows = begins[r + 1] - begin;
      const bool filler = rows == 0;
      const at::Tensor mine = (filler ? x.narrow(0, 0, 1) : x.narrow(0, begin, rows)).clone().requires_grad_(true);
      const ThreadRanks::Rank rank(all, r);
      const auto norm = filled();
      const at::Tensor y =
          norm->forward(mine, {.training = true, .ranks = ranks > 1 ? &rank : nullptr, .only_filler = filler});
      y.backward(filler ? at::zeros_like(y) : g.narrow(0, begin, rows));
      const std::scoped_lock lock(mutex);
      const auto parameters = norm->named_parameters();
      result.dweight += parameters["weight"].grad();
      result.dbias += parameters["bias"].grad();
      result.running_mean = norm->named_buffers()["running_mean"];
      result.running_var = norm->named_buffers()["running_var"];
      if (filler) {
        EXPECT_EQ(mine.grad().abs().max().item<float>(), 0);
        return;
      }
      result.y.narrow(0, begin, rows).copy_(y.detach());
      result.dx.narrow(0, begin, rows).copy_(mine.grad());
    });
  }
  threads.clear();
  return result;
}

void expect_close(const Trained& got, const Trained& want) {
  const auto close = [](const at::Tensor& a, const at::Tensor& b) { return at::allclose(a, b, 1e-5, 2e-6); };
  EXPECT_TRUE(close(got.y, want.y));
  EXPECT_TRUE(close(got.dx, want.dx)) << (got.dx - want.dx).abs().max();
  EXPECT_TRUE(close(got.dweight, want.dweight));
  EXPECT_TRUE(close(got.dbias, want.dbias));
  EXPECT_TRUE(close(got.running_mean, want.running_mean));
  EXPECT_TRUE(close(got.running_var, want.running_var));
}

TEST(SyncBatchNorm, GivesTheSameForAnyDivisionOfTheBatch) {
  const at::Tensor x = random(1, {6, kChannels, 4, 5}) * 3 + 2, g = random(2, {6, kChannels, 4, 5});
  const auto alone = train(x, g, {0, 6});
  for (const std::vector<std::int64_t>& begins :
       {std::vector<std::int64_t>{0, 3, 6}, {0, 4, 6}, {0, 2, 4, 6}, {0, 3, 5, 6}, {0, 3, 6, 6}}) {
    SCOPED_TRACE(::testing::PrintToString(begins));
    expect_close(train(x, g, begins), alone);
  }
}

TEST(SyncBatchNorm, OfOneRankIsPyTorchsBatchNorm) {
  const at::Tensor x = random(1, {6, kChannels, 4, 5}), g = random(2, {6, kChannels, 4, 5});
  const auto got = train(x, g, {0, 6});
  EXPECT_TRUE(at::allclose(got.running_mean, 0.1 * x.mean({0, 2, 3}), 1e-5, 1e-6));
  const at::Tensor unbiased = x.var({0, 2, 3});
  EXPECT_TRUE(at::allclose(got.running_var, 0.9 + 0.1 * unbiased, 1e-5, 1e-6));
}

TEST(BatchNorm, EvaluatesWithTheRunningStatistics) {
  const auto norm = filled();
  const at::Tensor x = random(1, {2, kChannels, 3, 3});
  const at::Tensor y = norm->forward(x, {});
  const at::Tensor weight = at::tensor({1.5F, -0.5F, 2.0F}).view({1, 3, 1, 1});
  const at::Tensor bias = at::tensor({0.1F, 0.2F, -0.3F}).view({1, 3, 1, 1});
  EXPECT_TRUE(at::allclose(y, x / std::sqrt(1 + kEps) * weight + bias, 1e-5, 1e-6));
}

TEST(BatchNorm, StaysInFloat32UnderBfloat16) {
  EXPECT_EQ(filled()->forward(random(1, {2, kChannels, 3, 3}).to(at::kBFloat16), {}).scalar_type(), at::kFloat);
}

TEST(ConvLayer, PadsAsTensorFlowDoes) {
  // A 1-channel sum filter on ones shows how much of it lies inside the picture.
  ConvLayer layer({.inputs = 1, .outputs = 1, .kernel = 3, .stride = 2, .tf_padding = true});
  std::vector<WeightEntry> entries;
  layer.collect_weights("", entries);
  const at::NoGradGuard no_grad;
  entries.at(0).view.fill_(1);
  const at::Tensor even = layer.forward(at::ones({1, 1, 4, 4}), {});  // one row and column, at the bottom and right
  EXPECT_TRUE(at::equal(even[0][0], at::tensor({9.F, 6.F, 6.F, 4.F}).view({2, 2})));
  const at::Tensor odd = layer.forward(at::ones({1, 1, 5, 5}), {});  // one on each side
  EXPECT_TRUE(at::equal(odd[0][0], at::tensor({4.F, 6.F, 4.F, 6.F, 9.F, 6.F, 4.F, 6.F, 4.F}).view({3, 3})));
}

TEST(ConvLayer, RefusesGroupsThatDoNotDivide) {
  EXPECT_THROW(ConvLayer({.inputs = 3, .outputs = 4, .groups = 2}), UsageError);
}

}  // namespace
}  // namespace mmkd::nn
