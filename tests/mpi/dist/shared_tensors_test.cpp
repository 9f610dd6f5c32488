#include "mmkd/dist/shared_tensors.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>

#include "mmkd/base/error.h"
#include "tests/mpi/dist/world_fixture.h"
#include "tests/support/resident_memory.h"

namespace mmkd {
namespace {

class SharedTensorsTest : public test::WorldTest {
 protected:
  std::unique_ptr<SharedTensors> create(const SharedTensors::Sizes& sizes) {
    std::string why_not;
    auto tensors = SharedTensors::create(*world_, sizes, why_not);
    EXPECT_TRUE(tensors) << why_not;
    return tensors;
  }
};

TEST_F(SharedTensorsTest, AreSeenByAllRanks) {
  const std::size_t row = SharedTensors::bytes_of({3, 5}, at::kFloat);
  auto memory = create({.allocated = row * static_cast<std::size_t>(size()), .untouched = row});
  std::vector<at::Tensor> of_ranks;
  for (int r = 0; r < size(); ++r) of_ranks.push_back(memory->take({3, 5}, at::kFloat));
  const at::Tensor lazy = memory->take_untouched({3, 5}, at::kFloat);
  EXPECT_THROW(memory->take({1}, at::kFloat), Error);
  memory.reset();  // the tensors keep it
  EXPECT_EQ(of_ranks[0].abs().sum().item<float>(), 0);
  world_->barrier();
  of_ranks[static_cast<std::size_t>(rank())].fill_(1 + rank());
  if (rank() == size() - 1) lazy.fill_(-1);
  world_->barrier();
  for (int r = 0; r < size(); ++r) {
    EXPECT_TRUE(of_ranks[static_cast<std::size_t>(r)].eq(1 + r).all().item<bool>()) << r;
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(of_ranks[static_cast<std::size_t>(r)].data_ptr()) % 64, 0U);
  }
  EXPECT_TRUE(lazy.eq(-1).all().item<bool>());
}

TEST_F(SharedTensorsTest, TakeMemoryOfWhatIsTouched) {
  constexpr std::int64_t kElements = std::int64_t{16} << 20;
  auto memory = create({.allocated = 64, .untouched = SharedTensors::bytes_of({kElements}, at::kFloat)});
  const double before = test::resident_megabytes();
  const at::Tensor lazy = memory->take_untouched({kElements}, at::kFloat);
  lazy[5].fill_(1);
  lazy[kElements - 1].fill_(1);
  EXPECT_LT(test::resident_megabytes() - before, 8) << "of 67";
}

TEST_F(SharedTensorsTest, HoldNoRowsAndNoElements) {
  auto memory = create({});
  EXPECT_EQ(memory->take({0, 4}, at::kDouble).numel(), 0);
}

}  // namespace
}  // namespace mmkd
