#include "mmkd/base/memory_arena.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <new>
#include <random>
#include <thread>
#include <vector>

namespace mmkd {
namespace {

constexpr std::size_t kMegabyte = std::size_t{1} << 20;
constexpr std::size_t kAddresses = std::size_t{4} << 30;

struct MarkedBlock {
  unsigned char* memory;
  std::size_t size;
  unsigned char mark;
};

MarkedBlock take(MemoryArena& arena, std::size_t size, unsigned char mark) {
  MarkedBlock block{static_cast<unsigned char*>(arena.take(size)), size, mark};
  std::memset(block.memory, mark, size);
  return block;
}

bool is_intact(const MarkedBlock& block) {
  return std::all_of(block.memory, block.memory + block.size, [&](unsigned char c) { return c == block.mark; });
}

/// Beyond what may be kept pages are released, but no more than that.
void give_back(MemoryArena& arena, const MarkedBlock& block) {
  const auto before = arena.usage();
  ASSERT_TRUE(arena.give_back(block.memory));
  const auto after = arena.usage();
  const std::size_t all = before.used + before.kept,
                    most = std::max(before.peak + before.peak / 8, after.used + 32 * kMegabyte);
  if (all <= most) {
    EXPECT_EQ(after.used + after.kept, all);
  } else {
    EXPECT_LE(after.used + after.kept, most);
    EXPECT_GE(after.used + after.kept + 3 * kMegabyte, most);
  }
}

/// Takes and gives back at random; blocks must neither overlap nor change.
void work(MemoryArena& arena, unsigned seed, int rounds, bool alone) {
  std::mt19937 random(seed);
  std::vector<MarkedBlock> blocks;
  for (int i = 0; i < rounds; ++i) {
    if (blocks.size() < 20 || random() % 2 == 0) {
      const std::size_t size = 1 + random() % (random() % 8 == 0 ? 3 * kMegabyte : 100'000);
      blocks.push_back(take(arena, size, static_cast<unsigned char>(random())));
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(blocks.back().memory) % MemoryArena::kPage, 0U);
    } else {
      std::swap(blocks[random() % blocks.size()], blocks.back());
      ASSERT_TRUE(is_intact(blocks.back())) << "round " << i;
      if (alone) {
        give_back(arena, blocks.back());
      } else {
        ASSERT_TRUE(arena.give_back(blocks.back().memory));
      }
      blocks.pop_back();
    }
  }
  for (const auto& block : blocks) {
    EXPECT_TRUE(is_intact(block));
    EXPECT_TRUE(arena.give_back(block.memory));
  }
}

TEST(MemoryArena, BlocksKeepTheirContentAndBecomeOnePartAgain) {
  for (unsigned seed = 0; seed < 5; ++seed) {
    const auto arena = MemoryArena::make(kAddresses);
    ASSERT_TRUE(arena);
    work(*arena, seed, 1000, true);
    EXPECT_EQ(arena->usage().used, 0U);
    EXPECT_EQ(arena->usage().parts, 1U);
  }
}

TEST(MemoryArena, ServesSeveralThreads) {
  const auto arena = MemoryArena::make(kAddresses);
  ASSERT_TRUE(arena);
  std::vector<std::thread> threads;
  for (unsigned seed = 0; seed < 4; ++seed) threads.emplace_back([&, seed] { work(*arena, seed, 300, false); });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(arena->usage().used, 0U);
  EXPECT_EQ(arena->usage().parts, 1U);
}

TEST(MemoryArena, WhatSmallBlocksLeaveServesALargeOne) {
  const auto arena = MemoryArena::make(kAddresses);
  ASSERT_TRUE(arena);
  std::vector<void*> small;
  for (int i = 0; i < 64; ++i) small.push_back(arena->take(kMegabyte));
  const auto addresses = arena->usage().addresses;
  for (auto* block : small) arena->give_back(block);
  void* large = arena->take(60 * kMegabyte);
  EXPECT_EQ(arena->usage().addresses, addresses);
  arena->give_back(large);
}

TEST(MemoryArena, AStepLikeTheOneBeforeNeedsNothingMore) {
  const auto arena = MemoryArena::make(kAddresses);
  ASSERT_TRUE(arena);
  std::vector<std::size_t> sizes;
  std::mt19937 random(7);
  for (int i = 0; i < 200; ++i) sizes.push_back(100'000 + random() % kMegabyte);
  std::size_t addresses = 0;
  for (int step = 0; step < 5; ++step) {
    std::vector<void*> blocks;
    blocks.reserve(sizes.size());
    for (const auto size : sizes) blocks.push_back(arena->take(size));
    for (auto block = blocks.rbegin(); block != blocks.rend(); ++block) arena->give_back(*block);
    if (step == 0) addresses = arena->usage().addresses;
    EXPECT_EQ(arena->usage().addresses, addresses);
  }
}

TEST(MemoryArena, KeepsLittleMoreThanWasOnceInUse) {
  const auto arena = MemoryArena::make(kAddresses);
  ASSERT_TRUE(arena);
  // Every other block stays, so that the free parts between them are of no use to what is larger.
  std::vector<MarkedBlock> stay;
  for (int round = 1; round <= 5; ++round) {
    std::vector<MarkedBlock> go;
    const std::size_t size = static_cast<std::size_t>(round) * kMegabyte;
    for (int i = 0; i < 20; ++i) {
      go.push_back(take(*arena, size, 1));
      stay.push_back(take(*arena, 4096, 2));
    }
    for (const auto& block : go) give_back(*arena, block);
    const auto usage = arena->usage();
    EXPECT_LE(usage.used + usage.kept, std::max(usage.peak + usage.peak / 8, usage.used + 32 * kMegabyte));
    EXPECT_LE(usage.used + usage.kept, usage.addresses);
  }
  EXPECT_TRUE(std::all_of(stay.begin(), stay.end(), is_intact));
}

TEST(MemoryArena, LeavesWhatIsNotItsOwnAndSaysWhenThereIsNoMore) {
  const auto arena = MemoryArena::make(16 * kMegabyte);
  ASSERT_TRUE(arena);
  int other = 0;
  EXPECT_FALSE(arena->give_back(&other));
  void* block = arena->take(kMegabyte);
  EXPECT_FALSE(arena->give_back(static_cast<char*>(block) + 1));
  EXPECT_THROW(arena->take(17 * kMegabyte), std::bad_alloc);
  EXPECT_TRUE(arena->give_back(block));
  EXPECT_FALSE(arena->give_back(block)) << "twice";
  block = arena->take(8 * kMegabyte);
  EXPECT_TRUE(arena->give_back(block));
}

}  // namespace
}  // namespace mmkd
