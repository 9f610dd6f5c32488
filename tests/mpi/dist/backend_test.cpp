// The c10d backend, through the process group that Reducer and World use.
#include <gtest/gtest.h>

#include <random>
#include <torch/csrc/distributed/c10d/comm.hpp>

#include "mmkd/base/error.h"
#include "tests/mpi/dist/world_fixture.h"

namespace mmkd {
namespace {

class BackendTest : public test::WorldTest {
 protected:
  at::Tensor reduced(const at::Tensor& mine, c10d::ReduceOp op) const {
    std::vector<at::Tensor> tensors{mine.clone()};
    c10d::AllreduceOptions options;
    options.reduceOp = op;
    group().allreduce(tensors, options)->wait();
    return tensors[0];
  }
};

TEST_F(BackendTest, ReducesEachDtypeByEachOperator) {
  // Rank r holds r + 1 and 2(r + 1); all results fit every type exactly.
  const double n = size();
  const double sum = n * (n + 1) / 2, product = std::tgamma(n + 1);
  for (const auto dtype : {at::kFloat, at::kDouble, at::kBFloat16, at::kHalf, at::kLong, at::kInt, at::kByte}) {
    const auto mine = at::tensor({rank() + 1.0, 2 * (rank() + 1.0)}).to(dtype);
    const auto expect = [&](c10d::ReduceOp::RedOpType op, double first, double second) {
      EXPECT_TRUE(at::equal(reduced(mine, op), at::tensor({first, second}).to(dtype)))
          << c10::toString(dtype) << ", operator " << int{op};
    };
    expect(c10d::ReduceOp::SUM, sum, 2 * sum);
    expect(c10d::ReduceOp::AVG, sum / n, 2 * sum / n);  // integers truncate
    expect(c10d::ReduceOp::MIN, 1, 2);
    expect(c10d::ReduceOp::MAX, n, 2 * n);
    if (dtype != at::kByte || size() < 4) expect(c10d::ReduceOp::PRODUCT, product, std::pow(2, n) * product);
  }
}

TEST_F(BackendTest, BooleanSumIsAny) {
  const auto booleans = [](int a, int b, int c) { return at::tensor({a, b, c}).to(at::kBool); };
  const auto mine = booleans(rank() == size() - 1, 0, 1);
  EXPECT_TRUE(at::equal(reduced(mine, c10d::ReduceOp::SUM), booleans(1, 0, 1)));
  EXPECT_TRUE(at::equal(reduced(mine, c10d::ReduceOp::MIN), booleans(size() == 1, 0, 1)));
}

TEST_F(BackendTest, ReductionsDoNotDependOnTheLayout) {
  at::manual_seed(static_cast<std::uint64_t>(100 + rank()));
  const auto values = at::randn({4001}) * at::exp(3 * at::randn({4001}));
  const auto whole = reduced(values, c10d::ReduceOp::SUM);
  const auto order = at::arange(4000, -1, -1);
  const auto reversed = reduced(at::cat({at::ones({7}), values.index_select(0, order)}), c10d::ReduceOp::SUM);
  EXPECT_TRUE(test::same_bits(whole, reversed.narrow(0, 7, 4001).index_select(0, order)));
}

TEST_F(BackendTest, TakesTensorsThatAreNotContiguous) {
  const auto base = at::arange(12.0).view({3, 4}) * (rank() + 1);
  const double factor = size() * (size() + 1) / 2.0;
  std::vector<at::Tensor> tensors{base.t()};
  group().allreduce(tensors)->wait();
  EXPECT_TRUE(at::equal(base, at::arange(12.0).view({3, 4}) * factor));

  auto column = at::full({3, 4}, rank()).select(1, 2);
  std::vector<at::Tensor> columns{column};
  c10d::BroadcastOptions options;
  options.rootRank = size() - 1;
  group().broadcast(columns, options)->wait();
  EXPECT_TRUE(at::equal(column, at::full({3}, size() - 1)));
}

TEST_F(BackendTest, GathersIntoAListAndIntoOneTensor) {
  const auto mine = at::arange(3.0) + 10 * rank();
  std::vector<std::vector<at::Tensor>> lists(1);
  for (int i = 0; i < size(); ++i) lists[0].push_back(at::zeros({3}));
  std::vector<at::Tensor> inputs{mine};
  group().allgather(lists, inputs)->wait();

  auto joined = at::zeros({size(), 3}), input = mine.clone();
  group()._allgather_base(joined, input)->wait();
  for (int i = 0; i < size(); ++i) {
    EXPECT_TRUE(at::equal(lists[0][static_cast<std::size_t>(i)], at::arange(3.0) + 10 * i));
    EXPECT_TRUE(at::equal(joined[i], at::arange(3.0) + 10 * i));
  }
}

TEST_F(BackendTest, ReduceScatterGivesEachRankItsRow) {
  auto input = at::arange(2.0 * size()).view({size(), 2}) * (rank() + 1), output = at::zeros({2});
  group()._reduce_scatter_base(output, input)->wait();
  const double factor = size() * (size() + 1) / 2.0;
  EXPECT_TRUE(at::equal(output, at::arange(2.0 * size()).view({size(), 2})[rank()] * factor));

  std::vector<at::Tensor> outputs{at::zeros({2})};
  std::vector<std::vector<at::Tensor>> rows{input.unbind(0)};
  group().reduce_scatter(outputs, rows)->wait();
  EXPECT_TRUE(at::equal(outputs[0], output));
}

TEST_F(BackendTest, CoalescedCollectivesDoAllTheirTensors) {
  std::vector<at::Tensor> tensors{at::ones({3}), at::full({2, 2}, 2L)};
  group().allreduce_coalesced(tensors)->wait();
  EXPECT_TRUE(at::equal(tensors[0], at::full({3}, static_cast<float>(size()))));
  EXPECT_TRUE(at::equal(tensors[1], at::full({2, 2}, 2L * size())));

  std::vector<at::Tensor> mixed{at::full({5}, rank() + 0.5F), at::full({2}, rank()), at::full({7}, rank() + 1.5F)};
  c10d::broadcast_coalesced(world_->group(), mixed, 16, 0);
  EXPECT_TRUE(at::equal(mixed[0], at::full({5}, 0.5F)));
  EXPECT_TRUE(at::equal(mixed[1], at::full({2}, 0)));
  EXPECT_TRUE(at::equal(mixed[2], at::full({7}, 1.5F)));
}

TEST_F(BackendTest, RunsWhatIsSubmittedInOrderWithoutWaiting) {
  std::mt19937 choice(17);  // the same on every rank
  std::vector<at::Tensor> tensors;
  std::vector<c10::intrusive_ptr<c10d::Work>> works;
  for (int i = 0; i < 200; ++i) {
    const auto count = static_cast<std::int64_t>(choice() % (choice() % 5 == 0 ? 100000 : 100));
    std::vector<at::Tensor> list{at::full({count}, static_cast<double>((rank() + 1) * (i + 1)), at::kDouble)};
    works.push_back(group().allreduce(list));
    tensors.push_back(list[0]);
  }
  for (int i = 199; i >= 0; --i) {
    const auto index = static_cast<std::size_t>(i);
    works[index]->wait();
    const double expected = (i + 1) * size() * (size() + 1) / 2.0;
    ASSERT_TRUE(at::equal(tensors[index], at::full_like(tensors[index], expected))) << "collective " << i;
  }
}

TEST_F(BackendTest, RefusesWhatItCannotReduceBeforeTouchingTheNetwork) {
  std::vector<at::Tensor> complex{at::zeros({2}, at::kComplexFloat)}, plain{at::zeros({2})};
  EXPECT_THROW(group().allreduce(complex), std::exception);
  c10d::AllreduceOptions options;
  options.reduceOp = c10d::ReduceOp::BXOR;
  EXPECT_THROW(group().allreduce(plain, options), std::exception);
  auto wrong = at::zeros({2 * size() + 1}), input = at::zeros({2});
  EXPECT_THROW(group()._allgather_base(wrong, input), std::exception);
  EXPECT_TRUE(group().barrier()->wait());  // still in step
}

TEST_F(BackendTest, ADisagreementIsTheErrorOfWorkAndFuture) {
  if (size() == 1) GTEST_SKIP() << "needs two ranks";
  std::vector<at::Tensor> tensors{at::zeros({rank() == 0 ? 3 : 4})};
  const auto work = group().allreduce(tensors);
  EXPECT_THROW(work->wait(), Error);
  EXPECT_FALSE(work->isSuccess());
  EXPECT_TRUE(work->getFuture()->hasError());
  EXPECT_THROW(group().barrier()->wait(), Error);  // unusable from here on
}

TEST_F(BackendTest, TimesOutInsteadOfHanging) {
  if (size() == 1) GTEST_SKIP() << "needs two ranks";
  group().setTimeout(std::chrono::milliseconds(150));
  if (rank() != 0) {
    EXPECT_THROW(group().barrier()->wait(), Error);
  }
  test::session().barrier();
}

TEST_F(BackendTest, AWorldThatIsAbortedDoesNotWaitForItsPeers) {
  if (size() == 1) GTEST_SKIP() << "needs two ranks";
  try {
    const auto world = make_world(test::session(), at::kCPU);
    if (rank() != 0) {
      world->group()->barrier();  // rank 0 never joins in
      throw Error("this rank leaves");
    }
    test::session().barrier();  // rank 0 stays until the others are gone
  } catch (const Error&) {
    test::session().barrier();
  }
}

}  // namespace
}  // namespace mmkd
