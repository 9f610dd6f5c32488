#include "src/train/row_gradients.h"

#include <gtest/gtest.h>
#include <torch/autograd.h>

#include <vector>

#include "mmkd/nn/embedding.h"
#include "tests/mpi/dist/world_fixture.h"

namespace mmkd {
namespace {

class RowGradients : public test::WorldTest {
 protected:
  void SetUp() override {
    at::manual_seed(3);
    table_ = at::randn({200, 32}).requires_grad_(true);
    table_.mutable_grad() = at::zeros_like(table_);
  }
  /// Words of a rank in a step; rank 2 has none.
  static at::Tensor words(int rank, std::int64_t step) {
    if (rank == 2) return at::zeros({0}, at::kLong);
    return at::tensor(std::vector<std::int64_t>{3 + step, 7, 7, 20 + 10 * std::int64_t{rank}}, at::kLong);
  }
  at::Tensor loss(const at::Tensor& table, int of_rank, std::int64_t step, bool dense) const {
    const at::Tensor sum = nn::embedding(table, words(of_rank, step)).square().sum() * (1.0 + of_rank);
    return dense && of_rank == 0 ? sum + table.sum() : sum;
  }

  at::Tensor table_;
};

TEST_F(RowGradients, BecomeTheMeanOverRanks) {
  nn::DirectGradients direct({table_}, {table_});
  for (std::int64_t step = 0; step < 4; ++step) {
    const bool dense = step == 2;  // rank 0 writes into all rows: every rank has to notice
    at::Tensor expected = at::zeros_like(table_);
    for (int r = 0; r < size(); ++r) {
      const at::Tensor other = table_.detach().clone().requires_grad_(true);
      expected += torch::autograd::grad({loss(other, r, step, dense)}, {other})[0] / size();
    }
    direct.begin_step();
    loss(table_, rank(), step, dense).backward();
    direct.end_step();
    average_rows(*world_, direct, {table_});
    EXPECT_TRUE(at::allclose(table_.grad(), expected, 1e-5, 1e-6)) << step;
    if (size() > 1) {
      EXPECT_EQ(direct.rows_of(table_).has_value(), !dense) << step;
    }
  }
}

}  // namespace
}  // namespace mmkd
