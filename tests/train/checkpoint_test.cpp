#include "mmkd/train/checkpoint.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>

#include "mmkd/base/error.h"
#include "tests/support/temp_folder.h"

namespace mmkd {
namespace fs = std::filesystem;
using test::TempFolder;
namespace {

TrainingState state_at(std::int64_t step) {
  return {.step = step,
          .state = {{"step", step}},
          .tensors = {{"weight", at::full({1000}, static_cast<double>(step))}, {"bias", at::arange(step + 1)}}};
}

TEST(CheckpointWriter, WritesBesideItsCallerAndKeepsTheNewest) {
  const TempFolder folder;
  const CheckpointStore store(folder.path(), 2);
  CheckpointWriter writer(store);
  at::Tensor weights = at::zeros({1000});
  for (std::int64_t step = 1; step <= 8; ++step) {
    auto checkpoint = state_at(step);
    checkpoint.tensors[0].tensor = weights.clone();
    writer.write(std::move(checkpoint));
    weights.add_(1);  // training goes on while the copy is written
  }
  EXPECT_EQ(writer.finish(), "");
  EXPECT_EQ(store.newest_step(), 8);
  const auto newest = store.load_newest();
  ASSERT_TRUE(newest);
  EXPECT_EQ(newest->step, 8);
  const auto weight = std::find_if(newest->tensors.begin(), newest->tensors.end(),
                                   [](const NamedTensor& item) { return item.name == "weight"; });
  ASSERT_NE(weight, newest->tensors.end());
  EXPECT_TRUE(at::equal(weight->tensor, at::full({1000}, 7.0)));
  const auto is_checkpoint = [](const fs::directory_entry& entry) {
    return entry.path().filename().string().starts_with("ckpt-");
  };
  EXPECT_EQ(std::count_if(fs::directory_iterator(folder.path()), fs::directory_iterator(), is_checkpoint), 2);
}

TEST(CheckpointWriter, TellsWhyTheLastOneIsNotThereAndGoesOn) {
  const TempFolder folder;
  const fs::path place = folder.path() / "work";
  std::ofstream(place) << "a file where the folder should be";
  const CheckpointStore store(place, 2);
  CheckpointWriter writer(store);
  writer.write(state_at(1));
  EXPECT_NE(writer.finish(), "");
  fs::remove(place);
  fs::create_directory(place);
  writer.write(state_at(2));
  EXPECT_EQ(writer.finish(), "");
  EXPECT_EQ(store.newest_step(), 2);
}

TEST(CheckpointWriter, FinishesWhenItIsDestroyed) {
  const TempFolder folder;
  const CheckpointStore store(folder.path(), 1);
  { CheckpointWriter(store).write(state_at(3)); }
  EXPECT_EQ(store.load_newest().value().step, 3);
}

}  // namespace
}  // namespace mmkd
