#include <gtest/gtest.h>
#include <torch/autograd.h>

#include "mmkd/base/error.h"
#include "tests/mpi/dist/world_fixture.h"

namespace mmkd {
namespace {

// Two hidden layers of 512: the parameters fill several of the Reducer's buckets.
struct Mlp {
  std::vector<at::Tensor> parameters;

  explicit Mlp(std::uint64_t seed) {
    at::manual_seed(seed);
    for (const auto& [in, out] : {std::pair{16, 512}, {512, 512}, {512, 5}}) {
      parameters.push_back((at::randn({out, in}) / std::sqrt(in)).requires_grad_());
      parameters.push_back(at::zeros({out}).requires_grad_());
    }
  }
  at::Tensor forward(at::Tensor x) const {
    for (std::size_t i = 0; i < parameters.size(); i += 2) {
      x = at::linear(x, parameters[i], parameters[i + 1]);
      if (i + 2 < parameters.size()) x = at::relu(x);
    }
    return x;
  }
  void zero_gradients() const {
    for (const auto& p : parameters)
      if (p.grad().defined()) p.mutable_grad().zero_();
  }
  void descend(double rate) const {
    const at::NoGradGuard no_grad;
    for (const auto& p : parameters) p.sub_(p.grad(), rate);
  }
};

struct Batch {
  at::Tensor inputs, labels;

  static Batch make(std::uint64_t seed, std::int64_t count) {
    at::manual_seed(seed);
    return {at::randn({count, 16}), at::randint(5, {count}, at::kLong)};
  }
  Batch rows(std::int64_t begin, std::int64_t count) const {
    return {inputs.narrow(0, begin, count), labels.narrow(0, begin, count)};
  }
};

// Sum over the rows, as a part of the mean over `global_count` rows.
at::Tensor loss_part(const Mlp& model, const Batch& batch, double weight) {
  return at::cross_entropy_loss(model.forward(batch.inputs), batch.labels, {}, at::Reduction::Sum) * weight;
}

class GradSyncTest : public test::WorldTest {
 protected:
  // This rank's rows, or one row that counts nothing; the ranks' losses average to the mean over the global batch.
  at::Tensor share_loss(const Mlp& model, const Batch& batch) const {
    const BatchShares shares{batch.labels.size(0), size()};
    const auto rows = shares.rows_of(rank());
    if (rows == 0) return loss_part(model, batch.rows(0, 1), 0.0);
    return loss_part(model, batch.rows(shares.begin_of(rank()), rows),
                     static_cast<double>(size()) / shares.global_count);
  }

  void expect_gradients_of(const Mlp& model, const Mlp& reference, const std::string& when) const {
    for (std::size_t i = 0; i < model.parameters.size(); ++i) {
      const auto difference = (model.parameters[i].grad() - reference.parameters[i].grad()).abs().max().item<double>();
      EXPECT_LE(difference, 1e-6) << "parameter " << i << ", " << when;
    }
  }
};

TEST_F(GradSyncTest, StartsWithTheParametersOfRankZero) {
  const Mlp model(static_cast<std::uint64_t>(rank())), of_rank_zero(0);
  const GradSync sync(*world_, model.parameters);
  for (std::size_t i = 0; i < model.parameters.size(); ++i)
    EXPECT_TRUE(at::equal(model.parameters[i], of_rank_zero.parameters[i])) << "parameter " << i;
}

TEST_F(GradSyncTest, GradientsAreThoseOfOneProcessWithAnUnevenBatch) {
  const Mlp model(1), reference(1);
  GradSync sync(*world_, model.parameters);
  for (std::uint64_t step = 0; step < 6; ++step) {
    const auto count = step == 3 ? 1 : 4 * size() + static_cast<std::int64_t>(step) % 3;  // once most have no rows
    const auto batch = Batch::make(50 + step, count);
    sync.begin_step();
    const auto loss = share_loss(model, batch);
    sync.begin_last_backward();
    loss.backward();
    loss_part(reference, batch, 1.0 / static_cast<double>(count)).backward();
    expect_gradients_of(model, reference, "step " + std::to_string(step));
    for (const auto* m : {&model, &reference}) {
      m->descend(0.1);
      m->zero_gradients();
    }
  }
}

TEST_F(GradSyncTest, MicroBatchesAddUpToTheWholeBatch) {
  const Mlp model(2), reference(2);
  GradSync sync(*world_, model.parameters);
  for (std::uint64_t step = 0; step < 4; ++step) {
    const std::int64_t rows = 2 * size();
    const auto batch = Batch::make(70 + step, 3 * rows);
    sync.begin_step();
    for (std::int64_t micro = 0; micro < 3; ++micro) {
      const auto loss = share_loss(model, batch.rows(micro * rows, rows)) / 3;
      if (micro == 2) sync.begin_last_backward();
      loss.backward();
    }
    loss_part(reference, batch, 1.0 / static_cast<double>(3 * rows)).backward();
    expect_gradients_of(model, reference, "step " + std::to_string(step));
    for (const auto* m : {&model, &reference}) {
      m->descend(0.1);
      m->zero_gradients();
    }
  }
}

TEST_F(GradSyncTest, EveryRankHasTheSameBits) {
  const Mlp model(3);
  GradSync sync(*world_, model.parameters);
  const auto batch = Batch::make(90, 5 * size());
  for (int step = 0; step < 2; ++step) {  // the second with rebuilt buckets
    sync.begin_step();
    const auto loss = share_loss(model, batch);
    sync.begin_last_backward();
    loss.backward();
    for (const auto& p : model.parameters) {
      auto of_rank_zero = p.grad().clone();
      world_->broadcast(of_rank_zero, 0);
      EXPECT_TRUE(test::same_bits(p.grad(), of_rank_zero));
    }
    model.zero_gradients();
  }
}

TEST_F(GradSyncTest, HalvedTrafficRoundsGradientsAndGivesAllRanksTheSameBits) {
  const Mlp model(3), reference(3);
  GradSync sync(*world_, model.parameters, {}, at::kBFloat16);
  const auto batch = Batch::make(90, 5 * size());
  loss_part(reference, batch, 1.0 / batch.labels.size(0)).backward();
  for (int step = 0; step < 3; ++step) {  // the second with rebuilt buckets
    model.zero_gradients();
    sync.begin_step();
    const auto loss = share_loss(model, batch);
    sync.begin_last_backward();
    loss.backward();
    for (std::size_t i = 0; i < model.parameters.size(); ++i) {
      const at::Tensor& gradient = model.parameters[i].grad();
      EXPECT_EQ(gradient.scalar_type(), at::kFloat);
      const double scale = reference.parameters[i].grad().abs().max().item<double>();
      const double difference = (gradient - reference.parameters[i].grad()).abs().max().item<double>();
      EXPECT_LE(difference, 2e-2 * scale) << "parameter " << i << ", step " << step;
      EXPECT_EQ(gradient.to(at::kBFloat16).to(at::kFloat).equal(gradient), size() > 1) << "rounded by the exchange";
      auto of_rank_zero = gradient.clone();
      world_->broadcast(of_rank_zero, 0);
      EXPECT_TRUE(test::same_bits(gradient, of_rank_zero));
    }
  }
}

TEST_F(GradSyncTest, RebuiltBucketsGiveTheSameBits) {
  // A resumed process starts with other buckets than one that has already rebuilt them.
  const auto gradients_after = [&](int warm_up_steps) {
    const Mlp model(4);
    GradSync sync(*world_, model.parameters);
    const auto batch = Batch::make(91, 4 * size() + 1);
    for (int step = 0; step <= warm_up_steps; ++step) {
      model.zero_gradients();
      sync.begin_step();
      const auto loss = share_loss(model, batch);
      sync.begin_last_backward();
      loss.backward();
    }
    std::vector<at::Tensor> gradients;
    for (const auto& p : model.parameters) gradients.push_back(p.grad().clone());
    return gradients;
  };
  const auto fresh = gradients_after(0), rebuilt = gradients_after(2);
  for (std::size_t i = 0; i < fresh.size(); ++i)
    EXPECT_TRUE(test::same_bits(fresh[i], rebuilt[i])) << "parameter " << i;
}

TEST_F(GradSyncTest, UndefinedGradientsWorkToo) {
  const Mlp model(5), reference(5);
  GradSync sync(*world_, model.parameters);
  for (std::uint64_t step = 0; step < 3; ++step) {
    for (const auto* m : {&model, &reference})
      for (const auto& p : m->parameters) p.mutable_grad() = at::Tensor();
    const auto batch = Batch::make(95 + step, 3 * size());
    sync.begin_step();
    const auto loss = share_loss(model, batch);
    sync.begin_last_backward();
    loss.backward();
    loss_part(reference, batch, 1.0 / static_cast<double>(3 * size())).backward();
    expect_gradients_of(model, reference, "step " + std::to_string(step));
  }
}

TEST_F(GradSyncTest, AParameterLeftOutIsAnErrorAtTheNextStep) {
  if (size() == 1) GTEST_SKIP() << "one rank has nothing to synchronise";
  const Mlp model(6);
  GradSync sync(*world_, model.parameters);
  sync.begin_step();
  sync.begin_last_backward();
  model.parameters[0].sum().backward();
  EXPECT_THROW(
      {
        sync.begin_step();
        sync.begin_last_backward();
      },
      Error);
}

TEST_F(GradSyncTest, ModelsOfDifferentShapesAreAnError) {
  if (size() == 1) GTEST_SKIP() << "needs two ranks";
  auto parameter = at::zeros({rank() == 0 ? 3 : 4}).requires_grad_();
  try {
    const GradSync sync(*world_, {parameter});
    FAIL() << "different shapes were accepted";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("parameter 0 is Float [4] on rank 1, Float [3] on rank 0"),
              std::string::npos)
        << error.what();
  }
  auto another = at::zeros({2}).requires_grad_();
  const auto more = rank() == 0 ? std::vector{another} : std::vector{another, at::zeros({1}).requires_grad_()};
  EXPECT_THROW(GradSync(*world_, more), Error);
}

TEST_F(GradSyncTest, AFailedReductionEndsBackwardWithItsError) {
  if (size() == 1) GTEST_SKIP() << "needs two ranks";
  const Mlp model(7);
  GradSync sync(*world_, model.parameters);
  sync.begin_step();
  const auto loss = share_loss(model, Batch::make(99, 2 * size()));
  sync.begin_last_backward();
  if (rank() == 0) {
    auto stray = at::zeros({1});
    std::vector<at::Tensor> tensors{stray};
    world_->group()->allreduce(tensors);  // out of step with the others
  }
  try {
    loss.backward();
    FAIL() << "backward did not notice";
  } catch (const std::exception& error) {
    EXPECT_NE(std::string(error.what()).find("disagree"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace mmkd
