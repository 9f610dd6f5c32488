#include "mmkd/dist/world.h"

#include <gtest/gtest.h>

#include "mmkd/base/error.h"
#include "src/dist/rendezvous.h"
#include "tests/mpi/dist/world_fixture.h"

namespace mmkd {
namespace {

using WorldTest = test::WorldTest;

TEST_F(WorldTest, HasThePlaceOfItsSession) {
  EXPECT_EQ(world_->rank(), test::session().rank());
  EXPECT_EQ(world_->size(), test::session().size());
  EXPECT_EQ(world_->group()->getRank(), test::session().rank());
  EXPECT_EQ(world_->group()->getSize(), test::session().size());
}

TEST_F(WorldTest, SumsInPlace) {
  auto tensor = at::tensor({rank() + 1.0F, 1.0F});
  world_->all_reduce_sum(tensor);
  EXPECT_TRUE(at::equal(tensor, at::tensor({size() * (size() + 1) / 2.0F, static_cast<float>(size())})));
}

TEST_F(WorldTest, BroadcastsInPlaceFromAnyRank) {
  for (int root = 0; root < size(); ++root) {
    auto tensor = at::full({3}, rank(), at::kLong);
    world_->broadcast(tensor, root);
    EXPECT_TRUE(at::equal(tensor, at::full({3}, root, at::kLong)));
  }
}

TEST_F(WorldTest, BroadcastReachesAParameter) {
  auto parameter = at::full({2}, rank() + 1.0F).requires_grad_();
  world_->broadcast(parameter, 0);
  EXPECT_TRUE(at::equal(parameter.detach(), at::ones({2})));
  EXPECT_TRUE(parameter.is_leaf());
}

TEST_F(WorldTest, GathersAlongTheFirstDimension) {
  const auto gathered = world_->all_gather(at::full({2, 3}, rank(), at::kInt));
  ASSERT_EQ(gathered.sizes(), (std::vector<std::int64_t>{2 * size(), 3}));
  for (int r = 0; r < size(); ++r) EXPECT_TRUE(at::equal(gathered.narrow(0, 2 * r, 2), at::full({2, 3}, r, at::kInt)));
}

TEST_F(WorldTest, SeveralWorldsLiveSideBySide) {
  const auto other = make_world(test::session(), at::kCPU);
  auto a = at::ones({1}), b = at::ones({1});
  other->all_reduce_sum(a);
  world_->all_reduce_sum(b);
  other->barrier();
  EXPECT_EQ(a.item<float>(), static_cast<float>(size()));
  EXPECT_EQ(b.item<float>(), static_cast<float>(size()));
}

TEST(TcpStore, IsSharedByAllRanks) {
  const auto store = make_tcp_store(test::session(), "");
  const auto key = [](int rank) { return "from rank " + std::to_string(rank); };
  store->set(key(test::session().rank()), std::vector<std::uint8_t>{42});
  for (int rank = 0; rank < test::session().size(); ++rank)
    EXPECT_EQ(store->get(key(rank)), std::vector<std::uint8_t>{42});
  test::session().barrier();  // the server lives in rank 0
}

TEST(TcpStore, AWrongInterfaceIsEveryRanksError) { EXPECT_THROW(make_tcp_store(test::session(), "nosuch0"), Error); }

}  // namespace
}  // namespace mmkd
