#include "mmkd/train/loader.h"

#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <mutex>
#include <set>
#include <thread>

#include "mmkd/base/error.h"
#include "tests/train/memory_source.h"

namespace mmkd {
namespace {

using testing::large_spec;
using testing::MemorySource;

constexpr std::int64_t kSamples = 23;

BatchAssembler assembler_of(const SampleSource& source) { return {source, {.teacher = {}, .student = large_spec()}}; }

std::vector<BatchPlan> plans(std::int64_t start_step = 0) {
  return epoch_plans(Sampler(kSamples, 4, 1, 0), {.seed = 5, .start_step = start_step});
}

std::vector<Batch> drain(BatchLoader loader) {
  std::vector<Batch> batches;
  while (auto batch = loader.next()) batches.push_back(std::move(*batch));
  EXPECT_EQ(loader.remaining(), 0);
  return batches;
}

void expect_equal(const std::vector<Batch>& got, const std::vector<Batch>& want) {
  ASSERT_EQ(got.size(), want.size());
  for (std::size_t i = 0; i < got.size(); ++i) {
    EXPECT_EQ(got[i].rows, want[i].rows);
    EXPECT_TRUE(at::equal(got[i].student.pixels, want[i].student.pixels));
    EXPECT_TRUE(at::equal(got[i].student.input_ids, want[i].student.input_ids));
    EXPECT_TRUE(at::equal(got[i].labels[1], want[i].labels[1]));
    EXPECT_TRUE(at::equal(got[i].sample_keys, want[i].sample_keys));
  }
}

/// Passes samples on from another source, with something done before.
class Disturbed final : public SampleSource {
 public:
  Disturbed(const SampleSource& source, std::function<void(std::int64_t)> before)
      : source_(source), before_(std::move(before)) {}
  std::int64_t size() const override { return source_.size(); }
  Record get(std::int64_t i) const override {
    before_(i);
    return source_.get(i);
  }

 private:
  const SampleSource& source_;
  std::function<void(std::int64_t)> before_;
};

TEST(BatchLoader, DeliversTheSameBatchesInOrderForAnyNumberOfWorkers) {
  const MemorySource source(kSamples);
  // Uneven work, so that workers overtake one another.
  const Disturbed slow(source,
                       [](std::int64_t i) { std::this_thread::sleep_for(std::chrono::microseconds(37 * (i % 5))); });
  const auto want = drain({assembler_of(source), plans(), {.num_workers = 0}});
  ASSERT_EQ(want.size(), 6U);
  for (const std::int64_t workers : {1, 2, 4, 9}) {
    for (const std::int64_t prefetch : {0, 1, 3}) {
      expect_equal(drain({assembler_of(slow), plans(), {.num_workers = workers, .prefetch = prefetch}}), want);
    }
  }
}

TEST(BatchLoader, StartsInTheMiddleOfAnEpoch) {
  const MemorySource source(kSamples);
  auto whole = drain({assembler_of(source), plans(), {.num_workers = 2}});
  whole.erase(whole.begin(), whole.begin() + 4);
  expect_equal(drain({assembler_of(source), plans(4), {.num_workers = 2}}), whole);
}

TEST(BatchLoader, CountsWhatIsStillToCome) {
  const MemorySource source(kSamples);
  BatchLoader loader(assembler_of(source), plans(), {.num_workers = 2});
  EXPECT_EQ(loader.remaining(), 6);
  loader.next();
  EXPECT_EQ(loader.remaining(), 5);
}

TEST(BatchLoader, HasNothingToDeliverWithoutPlans) {
  const MemorySource source(kSamples);
  for (const std::int64_t workers : {0, 2}) {
    BatchLoader loader(assembler_of(source), {}, {.num_workers = workers});
    EXPECT_FALSE(loader.next().has_value());
  }
}

TEST(BatchLoader, ThrowsAWorkersExceptionInThePlaceOfItsBatch) {
  const MemorySource source(kSamples);
  const auto bad = plans()[2].rows[1];
  const Disturbed failing(source, [&](std::int64_t i) {
    if (i == bad) throw Error("sample {} is damaged", i);
  });
  for (const std::int64_t workers : {0, 1, 3}) {
    BatchLoader loader(assembler_of(failing), plans(), {.num_workers = workers});
    EXPECT_TRUE(loader.next().has_value());
    EXPECT_TRUE(loader.next().has_value());
    EXPECT_THROW(loader.next(), Error);
    EXPECT_FALSE(loader.next().has_value());
    EXPECT_EQ(loader.remaining(), 0);
  }
}

TEST(BatchLoader, MakesNoMoreBatchesAheadThanAsked) {
  const MemorySource source(kSamples);
  std::mutex mutex;
  std::set<std::int64_t> touched;
  const Disturbed watched(source, [&](std::int64_t i) {
    const std::scoped_lock lock(mutex);
    touched.insert(i);
  });
  const auto order = plans();
  std::set<std::int64_t> allowed;
  for (std::size_t i = 0; i < 3; ++i) allowed.insert(order[i].rows.begin(), order[i].rows.end());
  BatchLoader loader(assembler_of(watched), plans(), {.num_workers = 4, .prefetch = 2});
  loader.next();  // one delivered, at most two more begun
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  const std::scoped_lock lock(mutex);
  for (const auto row : touched) EXPECT_TRUE(allowed.contains(row)) << "sample " << row;
}

TEST(BatchLoader, MayBeDestroyedBeforeItsEnd) {
  const MemorySource source(kSamples);
  for (int round = 0; round < 20; ++round) {
    BatchLoader unused(assembler_of(source), plans(), {.num_workers = 3});
    BatchLoader begun(assembler_of(source), plans(), {.num_workers = 3});
    EXPECT_TRUE(begun.next().has_value());
  }
}

TEST(BatchLoader, MayBeMovedWhileItsWorkersRun) {
  const MemorySource source(kSamples);
  BatchLoader loader(assembler_of(source), plans(), {.num_workers = 2});
  loader.next();
  auto moved = std::move(loader);
  EXPECT_EQ(drain(std::move(moved)).size(), 5U);
}

TEST(BatchLoader, RefusesNegativeNumbers) {
  const MemorySource source(kSamples);
  EXPECT_THROW(BatchLoader(assembler_of(source), plans(), {.num_workers = -1}), Error);
  EXPECT_THROW(BatchLoader(assembler_of(source), plans(), {.num_workers = 1, .prefetch = -1}), Error);
}

}  // namespace
}  // namespace mmkd
