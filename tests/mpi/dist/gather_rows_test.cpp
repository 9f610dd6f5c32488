#include <gtest/gtest.h>

#include "mmkd/base/error.h"
#include "tests/mpi/dist/world_fixture.h"

namespace mmkd {
namespace {

class GatherRowsTest : public test::WorldTest {
 protected:
  // The same on every rank.
  static at::Tensor batch(std::int64_t count) {
    at::manual_seed(3);
    return at::randn({count, 4}, at::kDouble);
  }
  BatchShares shares(std::int64_t count) const { return {count, size()}; }
  // This rank's rows, or the filler row that a rank without any carries.
  at::Tensor share_of(const at::Tensor& rows, const BatchShares& shares) const {
    if (shares.rows_of(rank()) == 0) return at::full({1, rows.size(1)}, 1e6, rows.options());
    return rows.narrow(0, shares.begin_of(rank()), shares.rows_of(rank())).clone();
  }
  // Every row meets every other, as in a contrastive loss.
  static at::Tensor relational_loss(const at::Tensor& rows) { return at::log_softmax(at::mm(rows, rows.t()), 1).sum(); }
};

TEST_F(GatherRowsTest, JoinsUnevenSharesInBatchOrderWithoutFiller) {
  for (std::int64_t count = 1; count <= 2 * size() + 1; ++count) {
    const auto gathered = gather_rows(*world_, share_of(batch(count), shares(count)), shares(count));
    EXPECT_TRUE(at::equal(gathered, batch(count))) << count << " rows";
  }
}

TEST_F(GatherRowsTest, MeanOfTheGradientsIsTheGradientOfOneProcess) {
  for (std::int64_t count = 1; count <= 2 * size() + 1; ++count) {
    auto whole = batch(count).requires_grad_();
    relational_loss(whole).backward();

    // Each rank's rows come from a weight that all ranks share, as a model's would.
    auto weight = at::ones({4}, at::kDouble).requires_grad_();
    auto reference = at::ones({4}, at::kDouble).requires_grad_();
    relational_loss(batch(count) * reference).backward();
    auto local = share_of(batch(count), shares(count)).requires_grad_();
    relational_loss(gather_rows(*world_, local * weight, shares(count))).backward();

    auto mean = weight.grad().clone();
    world_->all_reduce_sum(mean);
    EXPECT_TRUE(at::allclose(mean / size(), reference.grad(), 1e-10, 1e-12)) << count << " rows";
    if (shares(count).rows_of(rank()) == 0) {
      EXPECT_TRUE(at::equal(local.grad(), at::zeros_like(local))) << "a filler row has no gradient";
    } else {
      EXPECT_TRUE(at::allclose(local.grad() / size(), share_of(whole.grad(), shares(count)), 1e-10, 1e-12));
    }
  }
}

TEST_F(GatherRowsTest, GathersLabelsToo) {
  const auto labels = at::arange(2 * size(), at::kLong);
  const auto gathered =
      gather_rows(*world_, labels.narrow(0, shares(2 * size()).begin_of(rank()), 2).clone(), shares(2 * size()));
  EXPECT_TRUE(at::equal(gathered, labels));
}

TEST_F(GatherRowsTest, RefusesAShareOfTheWrongSize) {
  EXPECT_THROW(gather_rows(*world_, at::zeros({3, 2}), shares(2 * size())), Error);
  EXPECT_THROW(gather_rows(*world_, at::zeros({2, 2}), BatchShares{2 * size(), size() + 1}), Error);
  world_->barrier();  // nothing was sent
}

}  // namespace
}  // namespace mmkd
