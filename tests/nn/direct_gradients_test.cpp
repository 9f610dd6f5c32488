#include "mmkd/nn/direct_gradients.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <torch/autograd.h>

#include <functional>
#include <vector>

#include "mmkd/nn/embedding.h"
#include "mmkd/nn/linear.h"
#include "tests/support/resident_memory.h"

namespace mmkd::nn {
namespace {

/// A table of 64 words, a linear layer, and what uses them in several ways.
class DirectGradientsTest : public testing::Test {
 protected:
  void SetUp() override {
    at::manual_seed(11);
    for (auto* parameter : {&words_, &weight_, &bias_}) parameter->mutable_grad() = at::zeros_like(*parameter);
  }
  std::vector<at::Tensor> parameters() const { return {words_, weight_, bias_}; }
  std::vector<at::Tensor> gradients() const {
    std::vector<at::Tensor> all;
    for (const auto& parameter : parameters()) all.push_back(parameter.grad().clone());
    return all;
  }

  /// The gradients of `loss` by autograd alone.
  std::vector<at::Tensor> expected(const std::function<at::Tensor()>& loss) const {
    return torch::autograd::grad({loss()}, parameters(), {}, {}, false, /*allow_unused=*/true);
  }
  void expect_gradients(const std::vector<at::Tensor>& expected) const {
    const auto found = gradients();
    for (std::size_t i = 0; i < found.size(); ++i) {
      const at::Tensor wanted = expected[i].defined() ? expected[i] : at::zeros_like(found[i]);
      EXPECT_TRUE(at::allclose(found[i], wanted, 1e-5, 1e-5)) << i;
    }
  }
  at::Tensor loss(const std::vector<std::int64_t>& ids, bool twice = false) const {
    at::Tensor x = nn::embedding(words_, at::tensor(ids, at::kLong), 0);
    x = nn::linear(x, weight_, bias_);
    if (twice) x = nn::linear(at::tanh(x), weight_, bias_);
    return x.square().sum();
  }

  at::Tensor words_ = at::randn({64, 96}).requires_grad_(true), weight_ = at::randn({96, 96}).requires_grad_(true),
             bias_ = at::randn({96}).requires_grad_(true);
};

class DirectGradientsInMemory : public DirectGradientsTest,
                                public testing::WithParamInterface<DirectGradients::Memory> {};

INSTANTIATE_TEST_SUITE_P(Memory, DirectGradientsInMemory,
                         testing::Values(DirectGradients::Memory::kept, DirectGradients::Memory::per_step),
                         [](const auto& test) {
                           return test.param == DirectGradients::Memory::kept ? "Kept" : "PerStep";
                         });

TEST_P(DirectGradientsInMemory, AreThoseOfAutogradStepAfterStep) {
  for (const bool by_rows : {true, false}) {
    DirectGradients direct(parameters(), by_rows ? std::vector{words_} : std::vector<at::Tensor>{}, GetParam());
    EXPECT_TRUE(direct.serves(words_));
    EXPECT_TRUE(direct.serves(weight_));
    EXPECT_FALSE(direct.serves(bias_));
    for (const auto& ids : std::vector<std::vector<std::int64_t>>{{3, 5, 3, 0}, {7}, {5, 0}, {0}}) {
      const auto wanted = expected([&] { return loss(ids); });
      direct.begin_step();
      bias_.mutable_grad().zero_();
      loss(ids).backward();
      direct.end_step();
      expect_gradients(wanted);
    }
  }
}

TEST_P(DirectGradientsInMemory, AddUpOverUsesAndPasses) {
  DirectGradients direct(parameters(), {words_}, GetParam());
  const auto wanted = expected([&] { return loss({1, 2}, true) + loss({2, 9}); });
  direct.begin_step();
  loss({1, 2}, true).backward();
  loss({2, 9}).backward();
  direct.end_step();
  expect_gradients(wanted);
}

TEST_P(DirectGradientsInMemory, MixWithWhatAutogradAdds) {
  DirectGradients direct(parameters(), {words_}, GetParam());
  const auto mixed = [&](bool other_first) {
    const at::Tensor other =
        words_.square().sum() + nn::linear(words_.narrow(0, 2, 3), weight_.narrow(0, 0, 48), at::Tensor()).sum();
    return other_first ? other + loss({1, 2, 2}) : loss({1, 2, 2}) + other;
  };
  for (const bool other_first : {true, false, true}) {
    const auto wanted = expected([&] { return mixed(other_first); });
    direct.begin_step();
    bias_.mutable_grad().zero_();
    mixed(other_first).backward();
    direct.end_step();
    expect_gradients(wanted);
    // and then rows alone
    const auto rows = expected([&] { return loss({4}); });
    direct.begin_step();
    bias_.mutable_grad().zero_();
    loss({4}).backward();
    direct.end_step();
    expect_gradients(rows);
  }
}

TEST_P(DirectGradientsInMemory, WhatNothingWroteToIsZero) {
  DirectGradients direct(parameters(), {words_}, GetParam());
  direct.begin_step();
  loss({1, 2}).backward();
  direct.end_step();
  direct.begin_step();
  bias_.mutable_grad().zero_();
  direct.end_step();
  expect_gradients({at::Tensor(), at::Tensor(), at::Tensor()});
}

TEST(DirectGradientsOfTables, TouchOnlyTheRowsOfTokens) {
  const at::Tensor table = at::zeros({20000, 256}).requires_grad_(true);
  DirectGradients direct({table}, {table});
  void* const pages = mmap(nullptr, table.nbytes(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(pages, MAP_FAILED);
  table.mutable_grad() = at::from_blob(pages, table.sizes());
  const double before = test::resident_megabytes();
  for (int step = 0; step < 2; ++step) {
    direct.begin_step();
    nn::embedding(table, at::tensor({3, 19999}, at::kLong)).sum().backward();
    direct.end_step();
    EXPECT_EQ(table.grad()[19999][5].item<float>(), 1);
  }
  EXPECT_LT(test::resident_megabytes() - before, 8) << "of 20";
  table.mutable_grad() = at::Tensor();
  munmap(pages, table.nbytes());
}

TEST_F(DirectGradientsTest, KeepMemoryWhereItIs) {
  const void* before = weight_.grad().const_data_ptr();
  DirectGradients direct(parameters(), {words_});
  for (int step = 0; step < 2; ++step) {
    direct.begin_step();
    loss({1, 2}).backward();
    direct.end_step();
    EXPECT_EQ(weight_.grad().const_data_ptr(), before);
  }
}

TEST_F(DirectGradientsTest, OfAStepTakeMemoryFromTheBackwardPassToTheirRelease) {
  DirectGradients direct(parameters(), {words_}, DirectGradients::Memory::per_step);
  const void* table = words_.grad().const_data_ptr();
  for (int step = 0; step < 2; ++step) {
    direct.begin_step();
    EXPECT_FALSE(weight_.grad().defined());
    const at::Tensor value = loss({1, 2});
    EXPECT_FALSE(weight_.grad().defined());
    value.backward();
    EXPECT_TRUE(weight_.grad().defined());
    direct.end_step();
    direct.release();
    EXPECT_TRUE(direct.serves(weight_));
    EXPECT_FALSE(weight_.grad().defined());
    EXPECT_TRUE(bias_.grad().defined());
    EXPECT_EQ(words_.grad().const_data_ptr(), table);
  }
}

TEST_F(DirectGradientsTest, SayAndTakeRowsOfTables) {
  DirectGradients direct(parameters(), {words_});
  direct.begin_step();
  loss({5, 1, 5}).backward();
  direct.end_step();
  EXPECT_FALSE(direct.rows_of(weight_));
  ASSERT_TRUE(direct.rows_of(words_));
  EXPECT_TRUE(at::equal(*direct.rows_of(words_), at::tensor({5, 1}, at::kLong)));
  const at::Tensor values = at::randn({3, 96});
  direct.set_rows(words_, at::tensor({2, 5, 2}, at::kLong), values);
  at::Tensor expected = at::zeros({64, 96});
  expected[2] = values[0] + values[2];
  expected[5] = values[1];
  EXPECT_TRUE(at::equal(words_.grad(), expected));
  EXPECT_TRUE(at::equal(*direct.rows_of(words_), at::tensor({2, 5}, at::kLong)));
  direct.set_dense(words_);
  words_.mutable_grad().fill_(1);
  EXPECT_FALSE(direct.rows_of(words_));
  const auto wanted = this->expected([&] { return loss({4}); });
  direct.begin_step();
  bias_.mutable_grad().zero_();
  loss({4}).backward();
  direct.end_step();
  expect_gradients(wanted);
}

TEST_F(DirectGradientsTest, OutsideAStepAutogradHasThem) {
  const DirectGradients direct(parameters(), {words_});
  const auto found = torch::autograd::grad({loss({1})}, {words_, weight_});
  EXPECT_TRUE(found[0].defined());
  EXPECT_TRUE(found[1].defined());
}

TEST_F(DirectGradientsTest, UndefinedGradientsAreAutogradsOwn) {
  weight_.mutable_grad() = at::Tensor();
  DirectGradients direct(parameters(), {words_});
  EXPECT_FALSE(direct.serves(weight_));
  const auto wanted = expected([&] { return loss({1, 2}); });
  direct.begin_step();
  loss({1, 2}).backward();
  direct.end_step();
  expect_gradients(wanted);
}

}  // namespace
}  // namespace mmkd::nn
