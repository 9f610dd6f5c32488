#include "src/train/host_shares.h"

#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <vector>

#include "mmkd/base/error.h"
#include "mmkd/dist/flat_tensors.h"
#include "mmkd/train/optimizer.h"
#include "tests/mpi/dist/world_fixture.h"

namespace mmkd {
namespace {

at::Tensor numbers(at::IntArrayRef shape, std::uint64_t seed) {
  return at::randn(shape, at::detail::createCPUGenerator(seed));
}

/// A table, a matrix of several blocks, one smaller than a block, a vector; gradients depend on rank and step.
struct Model {
  std::vector<NamedTensor> parameters;
  explicit Model(std::uint64_t seed = 1) {
    for (const auto& [name, shape] : std::vector<std::pair<std::string, std::vector<std::int64_t>>>{
             {"table", {500, 24}}, {"matrix", {97, 301}}, {"small", {7, 11}}, {"bias", {13}}})
      parameters.push_back({name, numbers(shape, seed++).requires_grad_(true)});
  }
  std::vector<at::Tensor> tensors() const {
    std::vector<at::Tensor> all;
    for (const auto& item : parameters) all.push_back(item.tensor);
    return all;
  }
  at::Tensor table() const { return parameters[0].tensor; }
};

at::Tensor rows_of_step(std::int64_t step) {
  return (at::arange(40, at::kLong) * 7 + step * 3) % (step < 3 ? 150 : 500);
}

at::Tensor gradient_of(std::size_t parameter, const at::Tensor& like, int rank, std::int64_t step) {
  return numbers(like.sizes(),
                 1000 + parameter + 10 * static_cast<std::uint64_t>(step) + 1000 * static_cast<std::uint64_t>(rank));
}

/// That of the table, which is already the mean.
at::Tensor table_gradient(const at::Tensor& like, std::int64_t step) {
  const at::Tensor rows = rows_of_step(step);
  at::Tensor gradient = at::zeros_like(like);
  return gradient.index_copy_(0, rows, numbers({rows.numel(), like.size(1)}, 77 + static_cast<std::uint64_t>(step)));
}

class HostSharesTest : public test::WorldTest {
 protected:
  std::shared_ptr<HostShares> create(const Model& model, bool copies = false) {
    std::string why_not;
    auto shares = HostShares::create(*world_, model.tensors(), {model.table()}, copies, why_not);
    EXPECT_EQ(shares != nullptr, size() > 1) << why_not;
    return shares;
  }

  /// One optimizer for all ranks, and what it works on.
  struct Shared {
    Model model;
    std::shared_ptr<HostShares> shares;
    AdamW optimizer;
    Shared(HostSharesTest& test, const AdamWOptions& options, std::uint64_t seed = 1, bool copies = false)
        : model(seed), shares(test.create(model, copies)), optimizer(model.parameters, options, 2, 0.1, shares) {
      const auto tensors = model.tensors();
      for (std::size_t i = 0; i < tensors.size(); ++i)
        tensors[i].mutable_grad() = shares->parameters()[i].is_table ? FlatTensors::zeros_like({tensors[i]}).parts[0]
                                                                     : shares->parameters()[i].gradient;
    }
    AdamW::Step step(std::int64_t number) {
      const at::NoGradGuard no_grad;
      const auto tensors = model.tensors();
      tensors[0].mutable_grad().copy_(table_gradient(tensors[0], number));
      for (std::size_t i = 1; i < tensors.size(); ++i)
        tensors[i].mutable_grad().copy_(gradient_of(i, tensors[i], shares->world().rank(), number));
      const auto copy_of = [&](const at::Tensor& parameter) {
        for (std::size_t i = 0; i < tensors.size(); ++i)
          if (tensors[i].is_same(parameter)) return shares->parameters()[i].copy;
        return at::Tensor();
      };
      return optimizer.step(1e-2, {}, rows(number), copy_of);
    }
    AdamW::RowsOf rows(std::int64_t number) const {
      return [table = model.table(), number](const at::Tensor& parameter) {
        return parameter.is_same(table) ? std::optional(rows_of_step(number)) : std::nullopt;
      };
    }
  };

  /// The same by one rank alone, with gradients averaged before.
  struct Alone {
    Model model;
    AdamW optimizer;
    int ranks;
    Alone(int of, const AdamWOptions& options, std::uint64_t seed = 1)
        : model(seed), optimizer(model.parameters, options, 2, 0.1), ranks(of) {}
    AdamW::Step step(std::int64_t number) {
      const auto tensors = model.tensors();
      tensors[0].mutable_grad() = table_gradient(tensors[0].detach(), number);
      for (std::size_t i = 1; i < tensors.size(); ++i) {
        at::Tensor sum = gradient_of(i, tensors[i], 0, number);
        for (int rank = 1; rank < ranks; ++rank) sum.add_(gradient_of(i, tensors[i], rank, number));
        tensors[i].mutable_grad() = sum.div_(ranks);
      }
      return optimizer.step(1e-2, {}, [&](const at::Tensor& parameter) {
        return parameter.is_same(tensors[0]) ? std::optional(rows_of_step(number)) : std::nullopt;
      });
    }
  };

  void expect_same(const Model& a, const Model& b, std::int64_t step) {
    for (std::size_t i = 0; i < a.parameters.size(); ++i)
      EXPECT_TRUE(test::same_bits(a.parameters[i].tensor.detach(), b.parameters[i].tensor.detach()))
          << a.parameters[i].name << " after step " << step;
  }
};

TEST_F(HostSharesTest, EveryElementBelongsToOneRank) {
  const Model model;
  const auto shares = create(model);
  if (!shares) return;
  for (std::size_t i = 0; i < model.parameters.size(); ++i) {
    at::Tensor owners = at::zeros({model.parameters[i].tensor.numel()});
    for (const auto& [begin, end] : shares->parameters()[i].mine) owners.slice(0, begin, end).add_(1);
    world_->all_reduce_sum(owners);
    EXPECT_TRUE(owners.eq(1).all().item<bool>()) << model.parameters[i].name;
  }
}

TEST_F(HostSharesTest, OneUpdateByAllRanksIsTheUpdateByOne) {
  if (size() == 1) return;
  for (const double clip_norm : {0.0, 0.5}) {
    const AdamWOptions options{.weight_decay = 0.1, .clip_norm = clip_norm};
    Shared shared(*this, options);
    Alone alone(size(), options);
    for (std::int64_t step = 0; step < 6; ++step) {
      const auto a = shared.step(step), b = alone.step(step);
      EXPECT_TRUE(test::same_bits(a.norm, b.norm)) << step;
      expect_same(shared.model, alone.model, step);
      shared.shares->meet();  // before gradients change
    }
    shared.optimizer.leave_shares();
    shared.shares->meet();
    shared.model.table().detach().fill_(rank());  // each has its own now
    shared.shares->meet();
    EXPECT_TRUE(shared.model.table().eq(rank()).all().item<bool>());
  }
}

TEST_F(HostSharesTest, StartWithTheValuesOfRankZero) {
  if (size() == 1) return;
  const Shared shared(*this, {}, 1 + 100 * static_cast<std::uint64_t>(rank()));
  expect_same(shared.model, Model(1), 0);
}

TEST_F(HostSharesTest, CopiesInBfloat16AreWrittenByWhoUpdates) {
  if (size() == 1) return;
  Shared shared(*this, {}, 1, true);
  EXPECT_FALSE(shared.shares->parameters()[0].copy.defined());
  for (std::int64_t step = 0; step < 3; ++step) {
    shared.step(step);
    for (const auto i : {1U, 2U}) {
      const auto& parameter = shared.shares->parameters()[i];
      EXPECT_TRUE(test::same_bits(parameter.copy, parameter.value.to(at::kBFloat16))) << i << " " << step;
    }
    shared.shares->meet();
  }
}

TEST_F(HostSharesTest, AStateGoesIntoOtherOptimizersAndBack) {
  if (size() == 1) return;
  const AdamWOptions options{.weight_decay = 0.1};
  Shared first(*this, options);
  Alone alone(size(), options);
  for (std::int64_t step = 0; step < 4; ++step) {
    first.step(step);
    alone.step(step);
    first.shares->meet();
  }
  const auto state = first.optimizer.copied_state();
  const auto expected = alone.optimizer.state();
  ASSERT_EQ(state.size(), expected.size());
  for (std::size_t i = 0; i < state.size(); ++i) {
    EXPECT_EQ(state[i].name, expected[i].name);
    EXPECT_TRUE(test::same_bits(state[i].tensor, expected[i].tensor)) << state[i].name;
  }
  // On rank 0, as from a file.
  Shared second(*this, options, 50);
  Alone apart(size(), options, 50);
  if (rank() == 0) {
    const auto stored = [&](const NamedTensor& entry) -> const at::Tensor& {
      for (const auto& item : state)
        if (item.name == entry.name) return item.tensor;
      throw Error("no {}", entry.name);
    };
    const at::NoGradGuard no_grad;
    for (std::size_t i = 0; i < 4; ++i) {
      second.model.parameters[i].tensor.copy_(alone.model.parameters[i].tensor);
      apart.model.parameters[i].tensor.copy_(alone.model.parameters[i].tensor);
    }
    second.optimizer.load_state(stored);
    apart.optimizer.load_state(stored);
  }
  second.optimizer.broadcast_state(*world_);
  apart.optimizer.broadcast_state(*world_);
  for (const auto& item : apart.model.parameters) {
    at::Tensor values = item.tensor.detach();
    world_->broadcast(values, 0);
  }
  for (std::int64_t step = 4; step < 7; ++step) {
    second.step(step);
    alone.step(step);
    apart.step(step);
    expect_same(second.model, alone.model, step);
    expect_same(apart.model, alone.model, step);
    second.shares->meet();
  }
}

TEST_F(HostSharesTest, RanksWithOtherParametersAreAnErrorForAll) {
  if (size() == 1) return;
  const std::vector<at::Tensor> mine{at::zeros({rank() + 1, 4})};
  std::string why_not;
  EXPECT_THROW(HostShares::create(*world_, mine, {}, false, why_not), Error);
}

}  // namespace
}  // namespace mmkd
