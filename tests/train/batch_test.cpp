#include "mmkd/train/batch.h"

#include <gtest/gtest.h>

#include <set>

#include "mmkd/base/error.h"
#include "tests/train/memory_source.h"

namespace mmkd {
namespace {

using testing::large_spec;
using testing::MemorySource;
using testing::small_spec;

BatchPlan plan_of(std::vector<std::int64_t> rows) {
  const auto count = static_cast<std::int64_t>(rows.size());
  return {std::move(rows), {.global_count = count, .world = 1}};
}

at::Tensor longs(std::vector<std::vector<std::int64_t>> rows) {
  auto result =
      at::empty({static_cast<std::int64_t>(rows.size()), static_cast<std::int64_t>(rows[0].size())}, at::kLong);
  for (std::size_t i = 0; i < rows.size(); ++i) result[static_cast<std::int64_t>(i)].copy_(at::tensor(rows[i]));
  return result;
}

TEST(BatchAssembler, PadsTextsOnTheRightToTheLongestOfTheBatch) {
  const MemorySource source(5);
  const BatchAssembler assembler(source, {.teacher = {}, .student = large_spec()});
  const auto batch = assembler.assemble(plan_of({2, 0}));  // 4 and 2 tokens
  EXPECT_TRUE(at::equal(batch.student.input_ids, longs({{102, 102, 102, 102}, {100, 100, 0, 0}})));
  EXPECT_EQ(batch.student.attention_mask.scalar_type(), at::kBool);
  EXPECT_TRUE(at::equal(batch.student.attention_mask.to(at::kLong), longs({{1, 1, 1, 1}, {1, 1, 0, 0}})));
  EXPECT_FALSE(batch.teacher.pixels.defined());
  EXPECT_FALSE(batch.teacher.input_ids.defined());
}

TEST(BatchAssembler, UsesThePadIdOfTheStream) {
  const MemorySource source(5);
  const BatchAssembler assembler(source, {.teacher = {}, .student = small_spec()});
  const auto batch = assembler.assemble(plan_of({0, 1}));  // 3 and 4 tokens
  EXPECT_TRUE(at::equal(batch.student.input_ids, longs({{200, 200, 200, 9}, {201, 201, 201, 201}})));
}

TEST(BatchAssembler, TurnsInterleavedBytesIntoNormalisedPlanes) {
  const MemorySource source(3);
  const BatchAssembler assembler(source, {.teacher = {}, .student = large_spec()});
  const auto pixels = assembler.assemble(plan_of({1, 2})).student.pixels;
  ASSERT_EQ(pixels.sizes(), (std::vector<std::int64_t>{2, 3, 2, 3}));
  const auto record = source.get(2);
  for (std::int64_t c = 0; c < 3; ++c) {
    for (std::int64_t i = 0; i < 6; ++i) {
      const double want = (record.pixels[0][static_cast<std::size_t>(3 * i + c)] / 255.0 - 0.5) / 0.5;
      EXPECT_NEAR((pixels[1][c][i / 3][i % 3].item<double>()), want, 1e-6);
    }
  }
}

TEST(BatchAssembler, SwapsChannelsForNetworksThatReadBgr) {
  const MemorySource source(1);
  auto spec = small_spec();
  spec.policy.do_normalize = false;
  spec.policy.bgr = true;
  const auto pixels = BatchAssembler(source, {.teacher = {}, .student = spec}).assemble(plan_of({0})).student.pixels;
  EXPECT_FLOAT_EQ(pixels[0][0][0][0].item<float>(), 2 / 255.0F);
  EXPECT_FLOAT_EQ(pixels[0][2][0][0].item<float>(), 0.0F);
}

TEST(BatchAssembler, NormalisesEachChannelOfTheNetworkWithItsOwnMean) {
  const MemorySource source(1);
  auto spec = small_spec();
  spec.policy.mean = {0.1, 0.2, 0.3};
  spec.policy.std = {1, 1, 1};
  for (const bool bgr : {false, true}) {
    spec.policy.bgr = bgr;
    const auto table = pixel_table(spec.policy);
    const auto pixels = BatchAssembler(source, {.teacher = {}, .student = spec}).assemble(plan_of({0})).student.pixels;
    for (std::int64_t c = 0; c < 3; ++c) {
      const auto byte = source.get(0).pixels[1][static_cast<std::size_t>(bgr ? 2 - c : c)];
      EXPECT_EQ(pixels[0][c][0][0].item<float>(), table[static_cast<std::size_t>(c)][byte]) << "channel " << c;
    }
  }
}

TEST(BatchAssembler, RoundsPicturesAsACastWould) {
  const MemorySource source(8);
  const auto made = [&](at::ScalarType type) {
    AssemblerOptions options{.teacher = {}, .student = large_spec()};
    options.pixel_type = type;
    return BatchAssembler(source, options).assemble(plan_of({7, 3, 0}));
  };
  const auto exact = made(at::kFloat), rounded = made(at::kBFloat16);
  ASSERT_EQ(rounded.student.pixels.scalar_type(), at::kBFloat16);
  EXPECT_TRUE(at::equal(rounded.student.pixels, exact.student.pixels.to(at::kBFloat16)));
  EXPECT_THROW(made(at::kDouble), Error);
}

TEST(BatchAssembler, GivesLabelsAndKeysOfEachRow) {
  const MemorySource source(8);
  const auto batch = BatchAssembler(source, {.teacher = {}, .student = large_spec()}).assemble(plan_of({7, 3}));
  ASSERT_EQ(batch.labels.size(), 2U);
  EXPECT_TRUE(at::equal(batch.labels[0], at::tensor({1, 1}, at::kLong)));
  EXPECT_TRUE(at::equal(batch.labels[1], at::tensor({2, 3}, at::kLong)));
  EXPECT_EQ(static_cast<std::uint64_t>(batch.sample_keys[0].item<std::int64_t>()), 0xF000000000000007ULL);
  EXPECT_EQ(batch.rows, (std::vector<std::int64_t>{7, 3}));
}

TEST(BatchAssembler, SharesTensorsOfEqualStreams) {
  const MemorySource source(4);
  const auto same =
      BatchAssembler(source, {.teacher = large_spec(), .student = large_spec()}).assemble(plan_of({0, 1}));
  EXPECT_TRUE(same.teacher.pixels.is_same(same.student.pixels));
  EXPECT_TRUE(same.teacher.input_ids.is_same(same.student.input_ids));
  EXPECT_TRUE(same.teacher.attention_mask.is_same(same.student.attention_mask));

  auto normalised_otherwise = large_spec();
  normalised_otherwise.policy.mean = {0, 0, 0};
  const auto half =
      BatchAssembler(source, {.teacher = large_spec(), .student = normalised_otherwise}).assemble(plan_of({0}));
  EXPECT_FALSE(half.teacher.pixels.is_same(half.student.pixels));
  EXPECT_TRUE(half.teacher.input_ids.is_same(half.student.input_ids));

  const auto none = BatchAssembler(source, {.teacher = large_spec(), .student = small_spec()}).assemble(plan_of({0}));
  EXPECT_EQ(none.teacher.pixels.size(2), 2);
  EXPECT_EQ(none.student.pixels.size(2), 1);
  EXPECT_EQ(none.student.input_ids.size(1), 3);
}

TEST(BatchAssembler, GivesARankWithoutRowsTheFirstSampleAsFiller) {
  const MemorySource source(4);
  const BatchPlan plan{{}, {.global_count = 2, .world = 3}};
  const auto batch = BatchAssembler(source, {.teacher = {}, .student = large_spec()}).assemble(plan);
  EXPECT_EQ(batch.student.input_ids.size(0), 1);
  EXPECT_EQ(batch.student.input_ids[0][0].item<std::int64_t>(), 100);
  EXPECT_TRUE(batch.rows.empty());
  EXPECT_EQ(batch.shares.rows_of(2), 0);
}

TEST(BatchAssembler, NamesTheSampleWhoseSizeIsNotTheSpecs) {
  const MemorySource source(4);
  auto spec = large_spec();
  spec.height = 5;
  try {
    BatchAssembler(source, {.teacher = {}, .student = spec}).assemble(plan_of({3}));
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("s3"), std::string::npos) << error.what();
  }
}

class RowNumbers final : public TeacherOutputSource {
 public:
  TeacherOutputs rows(std::span<const std::int64_t> rows, std::span<const std::int64_t>) const override {
    TeacherOutputs outputs;
    outputs.img_raw = at::tensor(std::vector<std::int64_t>(rows.begin(), rows.end())).unsqueeze(1);
    return outputs;
  }
};

TEST(BatchAssembler, LooksUpTeacherOutputsOfItsRowsAndFillers) {
  const MemorySource source(4);
  const RowNumbers outputs;
  const BatchAssembler assembler(source, {.teacher = {}, .student = large_spec(), .teacher_outputs = &outputs});
  EXPECT_TRUE(at::equal(assembler.assemble(plan_of({2, 1})).teacher_outputs->img_raw, longs({{2}, {1}})));
  const BatchPlan filler{{}, {.global_count = 1, .world = 2}};
  EXPECT_TRUE(at::equal(assembler.assemble(filler).teacher_outputs->img_raw, longs({{0}})));
}

TEST(ToDevice, KeepsSharedTensorsSharedAndKeysOnTheCpu) {
  const MemorySource source(4);
  const BatchAssembler assembler(source, {.teacher = large_spec(), .student = large_spec()});
  const auto batch = to_device(assembler.assemble(plan_of({0, 1})), at::kMeta);
  EXPECT_TRUE(batch.student.pixels.is_meta());
  EXPECT_TRUE(batch.teacher.pixels.is_same(batch.student.pixels));
  EXPECT_TRUE(batch.teacher.input_ids.is_same(batch.student.input_ids));
  EXPECT_TRUE(batch.labels[1].is_meta());
  EXPECT_TRUE(batch.sample_keys.is_cpu());
}

TEST(EpochPlans, GiveEverySampleToOneRankOnceWhereverTheEpochIsCut) {
  for (const std::int64_t world : {1, 2, 3}) {
    std::multiset<std::int64_t> seen;
    for (std::int64_t rank = 0; rank < world; ++rank) {
      const Sampler sampler(23, 5, world, rank);
      const auto plans = epoch_plans(sampler, {.world = world, .seed = 1, .epoch = 2});
      EXPECT_EQ(plans.size(), 5U);
      const auto tail = epoch_plans(sampler, {.world = world, .seed = 1, .epoch = 2, .start_step = 3});
      ASSERT_EQ(tail.size(), 2U);
      for (std::size_t i = 0; i < tail.size(); ++i) EXPECT_EQ(tail[i].rows, plans[3 + i].rows);
      for (const auto& plan : plans) {
        EXPECT_EQ(static_cast<std::int64_t>(plan.rows.size()), plan.shares.rows_of(rank));
        seen.insert(plan.rows.begin(), plan.rows.end());
      }
    }
    EXPECT_EQ(seen.size(), 23U);
    EXPECT_EQ(std::set<std::int64_t>(seen.begin(), seen.end()).size(), 23U);
  }
}

TEST(EpochPlans, RefuseAStartBehindTheEnd) {
  const Sampler sampler(23, 5, 1, 0);
  EXPECT_TRUE(epoch_plans(sampler, {.seed = 1, .start_step = 5}).empty());
  EXPECT_THROW(epoch_plans(sampler, {.seed = 1, .start_step = 6}), Error);
}

TEST(BlockPlans, KeepBlocksWholeForAnyNumberOfRanks) {
  const auto blocks_of = [](std::int64_t world) {
    std::vector<std::vector<std::int64_t>> blocks;
    for (std::int64_t rank = 0; rank < world; ++rank) {
      for (const auto& plan : block_plans(10, 4, world, rank)) {
        EXPECT_EQ(plan.shares.rows_of(0), static_cast<std::int64_t>(plan.rows.size()));
        blocks.push_back(plan.rows);
      }
    }
    return blocks;
  };
  const std::vector<std::vector<std::int64_t>> want{{0, 1, 2, 3}, {4, 5, 6, 7}, {8, 9}};
  for (const std::int64_t world : {1, 2, 3, 5}) EXPECT_EQ(blocks_of(world), want) << world << " ranks";
  EXPECT_TRUE(block_plans(0, 4, 1, 0).empty());
}

}  // namespace
}  // namespace mmkd
