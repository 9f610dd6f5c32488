#include "mmkd/comm/channel.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <functional>
#include <random>
#include <thread>

#include "mmkd/base/error.h"
#include "tests/mpi/ranks.h"

namespace mmkd {
namespace {

using test::random_floats;
using test::session;

class ChannelTest : public testing::TestWithParam<ChannelOptions::Transport> {
 protected:
  // Slots of 4 KiB: a few thousand elements already take several turns.
  ChannelOptions options() const { return {.transport = GetParam(), .shared_slot_bytes = 4096}; }
  int rank() const { return session().rank(); }
  int size() const { return session().size(); }
  std::size_t ranks() const { return static_cast<std::size_t>(size()); }

  // ((x_0 + x_1) + x_2) + …
  std::vector<float> ordered_sum(std::uint32_t seed, std::size_t count) const {
    auto sum = random_floats(seed, count);
    for (std::uint32_t r = 1; r < ranks(); ++r) {
      const auto next = random_floats(seed + r, count);
      for (std::size_t i = 0; i < count; ++i) sum[i] += next[i];
    }
    return sum;
  }
  std::vector<float> mine(std::uint32_t seed, std::size_t count) const {
    return random_floats(seed + static_cast<std::uint32_t>(rank()), count);
  }
};

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

std::string error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST_P(ChannelTest, UsesTheTransportThatWasAskedFor) {
  const Channel channel(session(), options());
  const auto expected = GetParam() == ChannelOptions::Transport::mpi ? "MPI" : "shared memory";
  EXPECT_EQ(channel.transport(), size() == 1 ? "one rank" : expected);
}

TEST_P(ChannelTest, AllReduceSumsInRankOrderToTheLastBit) {
  Channel channel(session(), options());
  for (const std::size_t count : {1U, 2U, 3U, 5U, 17U, 1000U, 1024U, 1025U, 10007U}) {
    auto values = mine(7, count);
    channel.all_reduce(values.data(), count, ElementType::f32, Reduction::sum);
    EXPECT_TRUE(same_bits(values, ordered_sum(7, count))) << count << " elements";
  }
}

TEST_P(ChannelTest, TheSameValuesInAnotherLayoutGiveTheSameBits) {
  Channel channel(session(), options());
  constexpr std::size_t count = 5003;
  auto whole = mine(11, count);
  channel.all_reduce(whole.data(), count, ElementType::f32, Reduction::sum);

  // The same elements reversed, at an odd offset, among others, and in two collectives.
  auto reversed = mine(11, count);
  std::reverse(reversed.begin(), reversed.end());
  std::vector<float> buffer(count + 100, 3.0F);
  std::copy(reversed.begin(), reversed.end(), buffer.begin() + 13);
  channel.all_reduce(buffer.data() + 1, 2000, ElementType::f32, Reduction::sum);
  channel.all_reduce(buffer.data() + 2001, count - 1901, ElementType::f32, Reduction::sum);
  std::copy(buffer.begin() + 13, buffer.begin() + 13 + count, reversed.begin());
  std::reverse(reversed.begin(), reversed.end());
  EXPECT_TRUE(same_bits(whole, reversed));
}

TEST_P(ChannelTest, AllReduceOfNothingIsAllowed) {
  Channel channel(session(), options());
  channel.all_reduce(nullptr, 0, ElementType::f32, Reduction::sum);
  channel.all_gather(nullptr, nullptr, 0);
  channel.broadcast(nullptr, 0, 0);
  float one = 1.0F;
  channel.all_reduce(&one, 1, ElementType::f32, Reduction::sum);
  EXPECT_EQ(one, static_cast<float>(size()));
}

TEST_P(ChannelTest, ReduceScatterGivesEachRankItsRowOfTheSum) {
  Channel channel(session(), options());
  for (const std::size_t count : {1U, 15U, 3001U}) {
    const auto input = mine(19, ranks() * count);
    std::vector<float> output(count);
    channel.reduce_scatter(input.data(), output.data(), count, ElementType::f32, Reduction::sum);
    const auto all = ordered_sum(19, ranks() * count);
    const auto row = all.begin() + static_cast<std::ptrdiff_t>(count) * rank();
    EXPECT_TRUE(same_bits(output, std::vector<float>(row, row + static_cast<std::ptrdiff_t>(count))));
  }
}

TEST_P(ChannelTest, AllGatherJoinsInRankOrderAlsoInPlace) {
  Channel channel(session(), options());
  for (const std::size_t count : {1U, 1000U, 9001U}) {
    std::vector<float> expected;
    for (std::uint32_t r = 0; r < ranks(); ++r) {
      const auto row = random_floats(23 + r, count);
      expected.insert(expected.end(), row.begin(), row.end());
    }
    const auto input = mine(23, count);
    std::vector<float> output(ranks() * count);
    channel.all_gather(input.data(), output.data(), count * sizeof(float));
    EXPECT_EQ(output, expected);

    std::vector<float> in_place(ranks() * count);
    float* own = in_place.data() + static_cast<std::size_t>(rank()) * count;
    std::copy(input.begin(), input.end(), own);
    channel.all_gather(own, in_place.data(), count * sizeof(float));
    EXPECT_EQ(in_place, expected);
  }
}

TEST_P(ChannelTest, BroadcastWorksFromEveryRoot) {
  Channel channel(session(), options());
  for (int root = 0; root < size(); ++root) {
    auto values = random_floats(static_cast<std::uint32_t>(31 + rank()), 5000);
    channel.broadcast(values.data(), values.size() * sizeof(float), root);
    EXPECT_EQ(values, random_floats(static_cast<std::uint32_t>(31 + root), 5000));
  }
}

TEST_P(ChannelTest, TransfersLargerThanOneMessageOrSlotAreWhole) {
  Channel channel(session(), options());
  const std::size_t count = 3 * test::kMaxMessageBytes / sizeof(float) + 5;
  auto sum = mine(37, count);
  channel.all_reduce(sum.data(), count, ElementType::f32, Reduction::sum);
  EXPECT_TRUE(same_bits(sum, ordered_sum(37, count)));

  auto values = mine(41, count);
  channel.broadcast(values.data(), count * sizeof(float), size() - 1);
  EXPECT_TRUE(values == random_floats(static_cast<std::uint32_t>(41 + size() - 1), count));
}

TEST_P(ChannelTest, TwoHundredCollectivesOfRandomKindAndSizeStayInStep) {
  Channel channel(session(), options());
  std::mt19937 choice(5);  // the same on every rank
  for (std::uint32_t i = 0; i < 200; ++i) {
    const std::size_t count = choice() % 3 == 0 ? choice() % 20000 : choice() % 50;
    const auto kind = choice() % 4;
    const int root = static_cast<int>(choice() % ranks());
    auto values = mine(1000 * i, count);
    if (kind == 0) {
      channel.all_reduce(values.data(), count, ElementType::f32, Reduction::sum);
      ASSERT_TRUE(same_bits(values, ordered_sum(1000 * i, count))) << "collective " << i;
    } else if (kind == 1) {
      channel.broadcast(values.data(), count * sizeof(float), root);
      ASSERT_EQ(values, random_floats(1000 * i + static_cast<std::uint32_t>(root), count)) << "collective " << i;
    } else if (kind == 2) {
      std::vector<float> all(ranks() * count);
      channel.all_gather(values.data(), all.data(), count * sizeof(float));
      const auto row = all.begin() + static_cast<std::ptrdiff_t>(count) * root;
      ASSERT_TRUE(std::equal(row, row + static_cast<std::ptrdiff_t>(count),
                             random_floats(1000 * i + static_cast<std::uint32_t>(root), count).begin()))
          << "collective " << i;
    } else {
      channel.barrier();
    }
  }
}

TEST_P(ChannelTest, DisagreementIsAnErrorOnEveryRankAndSpoilsTheChannel) {
  if (size() == 1) GTEST_SKIP() << "needs two ranks";
  Channel channel(session(), options());
  std::vector<float> values(100, 1.0F);
  const std::size_t count = rank() == 0 ? 99 : 100;
  const auto reduce = [&] { channel.all_reduce(values.data(), count, ElementType::f32, Reduction::sum); };
  const auto message = error_of(reduce);
  EXPECT_NE(message.find("disagree"), std::string::npos) << message;
  EXPECT_NE(message.find("99 × f32"), std::string::npos) << message;
  EXPECT_NE(error_of([&] { channel.barrier(); }).find("earlier collective failed"), std::string::npos);
}

TEST_P(ChannelTest, DifferentCollectivesAreADisagreement) {
  if (size() == 1) GTEST_SKIP() << "needs two ranks";
  Channel channel(session(), options());
  float value = 0.0F;
  const auto message = error_of([&] {
    if (rank() == 0) {
      channel.broadcast(&value, sizeof value, 0);
    } else {
      channel.barrier();
    }
  });
  EXPECT_NE(message.find("disagree"), std::string::npos) << message;
}

TEST_P(ChannelTest, WaitingForARankThatDoesNotComeEndsAtTheTimeout) {
  if (size() == 1) GTEST_SKIP() << "needs two ranks";
  Channel channel(session(), options());
  channel.set_timeout(std::chrono::milliseconds(150));
  if (rank() != 0) {
    const auto message = error_of([&] { channel.barrier(); });
    EXPECT_NE(message.find("waited 150 ms"), std::string::npos) << message;
    if (GetParam() == ChannelOptions::Transport::shared_memory) {
      EXPECT_NE(message.find("rank 0"), std::string::npos) << message;
    }
  }
  session().barrier();
}

TEST_P(ChannelTest, CancelEndsAWaitAndEverythingAfter) {
  if (size() == 1) GTEST_SKIP() << "needs two ranks";
  Channel channel(session(), options());
  if (rank() != 0) {
    std::thread canceller([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      channel.cancel();
    });
    const auto message = error_of([&] { channel.barrier(); });
    canceller.join();
    EXPECT_NE(message.find("cancelled"), std::string::npos) << message;
    EXPECT_NE(error_of([&] { channel.barrier(); }), "");
  }
  session().barrier();
}

TEST(SharedMemoryChannel, ARankThatFailsTellsTheOthers) {
  if (session().size() == 1) GTEST_SKIP() << "needs two ranks";
  Channel channel(session(), {.transport = ChannelOptions::Transport::shared_memory});
  std::string message;
  if (session().rank() == 0) {
    channel.cancel();
    message = error_of([&] { channel.barrier(); });
  } else {
    message = error_of([&] { channel.barrier(); });
    EXPECT_NE(message.find("rank 0 failed: cancelled"), std::string::npos) << message;
  }
  EXPECT_NE(message, "");
  session().barrier();
}

TEST_P(ChannelTest, RefusesWhatCannotBe) {
  Channel channel(session(), options());
  bool flag = true;
  EXPECT_THROW(channel.all_reduce(&flag, 1, ElementType::boolean, Reduction::average), Error);
  EXPECT_THROW(channel.broadcast(&flag, 1, size()), Error);
  EXPECT_THROW(channel.broadcast(&flag, 1, -1), Error);
  channel.barrier();  // still usable
}

INSTANTIATE_TEST_SUITE_P(Transports, ChannelTest,
                         testing::Values(ChannelOptions::Transport::shared_memory, ChannelOptions::Transport::mpi),
                         [](const auto& instance) {
                           return instance.param == ChannelOptions::Transport::mpi ? "mpi" : "shared_memory";
                         });

}  // namespace
}  // namespace mmkd
