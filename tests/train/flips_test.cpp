#include "tests/support/flips.h"

#include <gtest/gtest.h>

#include "mmkd/base/log.h"
#include "mmkd/train/checkpoint.h"
#include "tests/support/temp_folder.h"

// One changed byte anywhere in a training checkpoint.
namespace mmkd {
namespace {

TrainingState small_state_at(std::int64_t step) {
  TrainingState checkpoint;
  checkpoint.step = step;
  checkpoint.state = {{"epoch", 3}, {"step", step}, {"history", {{{"epoch", 1}, {"dev_shape_f1", 0.625}}}}};
  checkpoint.tensors = {{"model.weight", at::full({5, 7}, static_cast<double>(step), at::kFloat)},
                        {"loss_sums", at::full({2, 3}, static_cast<double>(step), at::kDouble)}};
  return checkpoint;
}

std::vector<std::filesystem::path> files_of(const std::filesystem::path& folder) {
  return {folder / "manifest.json", folder / "state.json", folder / "tensors.safetensors"};
}

void expect_whole(const TrainingState& found, std::int64_t step) {
  const auto want = small_state_at(step);
  ASSERT_EQ(found.step, step);
  EXPECT_EQ(found.state, want.state);
  ASSERT_EQ(found.tensors.size(), want.tensors.size());
  for (const auto& tensor : found.tensors) EXPECT_TRUE(tensor.tensor.eq(static_cast<double>(step)).all().item<bool>());
}

TEST(Flips, InTheNewestCheckpointMakeTheOneBeforeTheNewest) {
  const test::TempFolder folder;
  const CheckpointStore store(folder.path(), 2);
  store.save(small_state_at(10));
  store.save(small_state_at(20));
  log::configure(log::Level::error, "");  // one warning a flip
  test::expect_every_flip_is_noticed(files_of(folder / "ckpt-20"), 1, [&] {
    const auto found = store.load_newest();
    ASSERT_TRUE(found.has_value());
    expect_whole(*found, found->step);
    if (found->step != 20) throw Error("fell back to step {}", found->step);
  });
}

TEST(Flips, InTheOnlyCheckpointLeaveNone) {
  const test::TempFolder folder;
  const CheckpointStore store(folder.path(), 1);
  store.save(small_state_at(10));
  ::testing::internal::CaptureStderr();
  test::expect_every_flip_is_noticed(files_of(folder / "ckpt-10"), 2, [&] {
    const auto found = store.load_newest();
    if (!found.has_value()) throw Error("nothing to resume from");
    expect_whole(*found, 10);
  });
}

}  // namespace
}  // namespace mmkd
