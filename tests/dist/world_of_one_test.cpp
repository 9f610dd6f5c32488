#include <dlfcn.h>
#include <gtest/gtest.h>
#include <torch/autograd.h>

#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>

#include "mmkd/base/error.h"
#include "mmkd/comm/network.h"
#include "mmkd/dist/cuda_plugin.h"
#include "mmkd/dist/world.h"

namespace mmkd {
namespace {

class WorldOfOne : public testing::Test {
 protected:
  MpiSession session_;
  std::unique_ptr<World> world_ = make_world(session_, at::kCPU);
};

TEST_F(WorldOfOne, NeedsNoLauncher) {
  EXPECT_EQ(world_->rank(), 0);
  EXPECT_EQ(world_->size(), 1);
  EXPECT_EQ(world_->local_rank(), 0);
  EXPECT_EQ(world_->local_size(), 1);
  EXPECT_EQ(world_->device(), at::Device(at::kCPU));
  EXPECT_FALSE(world_->mpi().launched());
}

TEST_F(WorldOfOne, CollectivesLeaveTensorsAsTheyAre) {
  auto tensor = at::tensor({1.0F, 2.0F});
  world_->all_reduce_sum(tensor);
  world_->broadcast(tensor, 0);
  world_->barrier();
  EXPECT_TRUE(at::equal(tensor, at::tensor({1.0F, 2.0F})));
  EXPECT_TRUE(at::equal(world_->all_gather(tensor), tensor));
  EXPECT_THROW(world_->broadcast(tensor, 1), Error);
  EXPECT_THROW(world_->all_gather(at::tensor(1.0F).squeeze()), Error);
}

TEST_F(WorldOfOne, HasAProcessGroupThatWorks) {
  std::vector<at::Tensor> tensors{at::tensor({3.0F})};
  EXPECT_TRUE(world_->group()->allreduce(tensors)->wait());
  EXPECT_EQ(tensors[0].item<float>(), 3.0F);
}

TEST_F(WorldOfOne, GatheredRowsAreTheLocalOnes) {
  auto rows = at::arange(6.0).view({3, 2}).requires_grad_();
  const auto gathered = gather_rows(*world_, rows, {3, 1});
  EXPECT_TRUE(at::equal(gathered, rows));
  gathered.square().sum().backward();
  EXPECT_TRUE(at::equal(rows.grad(), 2 * rows));
  EXPECT_THROW(gather_rows(*world_, rows, {4, 1}), Error);
  EXPECT_THROW(gather_rows(*world_, rows, {3, 2}), Error);
}

TEST_F(WorldOfOne, GradSyncChangesNothing) {
  auto weight = at::tensor({2.0F}).requires_grad_();
  GradSync sync(*world_, {weight});
  sync.begin_step();
  sync.begin_last_backward();
  (3 * weight).backward();
  EXPECT_EQ(weight.grad().item<float>(), 3.0F);
}

TEST_F(WorldOfOne, GradSyncNamesTheParameterThatIsWrong) {
  const auto weight = at::tensor({2.0F}).requires_grad_();
  EXPECT_THROW(GradSync(*world_, {}), Error);
  EXPECT_THROW(GradSync(*world_, {weight, at::tensor({1.0F})}), Error);  // requires no gradient
  EXPECT_THROW(GradSync(*world_, {weight, weight}), Error);
}

TEST(MakeWorld, SaysWhatIsMissingForCuda) {
  void* driver = dlopen("libcuda.so.1", RTLD_LAZY);
  if (driver != nullptr) GTEST_SKIP() << "this machine has an NVIDIA driver";
  EXPECT_FALSE(load_cuda_plugin());
  EXPECT_EQ(cuda_device_count(), 0);
  const MpiSession session;
  try {
    make_world(session, at::kCUDA);
    FAIL() << "a CUDA world without a driver";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("no NVIDIA driver"), std::string::npos) << error.what();
  }
}

TEST(MakeWorld, RefusesOtherDevices) {
  const MpiSession session;
  EXPECT_THROW(make_world(session, at::kMeta), Error);
}

TEST(ListenAddress, IsLoopbackWhereAllRanksShareAHost) { EXPECT_EQ(listen_address(true, ""), "127.0.0.1"); }

TEST(ListenAddress, FollowsTheInterfaceThatIsNamed) { EXPECT_EQ(listen_address(false, "lo"), "127.0.0.1"); }

TEST(ListenAddress, ListsTheInterfacesIfTheNamedOneIsNotThere) {
  try {
    listen_address(false, "nosuch0");
    FAIL() << "an interface that does not exist";
  } catch (const Error& error) {
    const std::string message = error.what();
    EXPECT_NE(message.find("nosuch0"), std::string::npos) << message;
    EXPECT_NE(message.find("lo (127.0.0.1)"), std::string::npos) << message;
  }
}

}  // namespace
}  // namespace mmkd
