#include "tests/support/flips.h"

#include <gtest/gtest.h>

#include "mmkd/weights/checkpoint.h"
#include "mmkd/weights/load.h"
#include "mmkd/weights/save.h"
#include "mmkd/weights/tensors.h"
#include "tests/support/temp_folder.h"
#include "tests/weights/support.h"

// One changed byte anywhere in a safetensors file that mmkd wrote.
namespace mmkd {
namespace {

std::vector<NamedTensor> some_tensors() {
  return {{"embeddings.word_embeddings.weight", test::counting({6, 4}, 0.5)},
          {"layer.0.bias", test::counting({4}, -2)},
          {"none", at::zeros({0, 3})},
          {"flag", at::ones({1}, at::kByte)},
          {"scalar", at::tensor(3.0f).squeeze()}};
}

std::vector<nn::WeightEntry> entries_of(const std::vector<NamedTensor>& tensors) {
  std::vector<nn::WeightEntry> entries;
  for (const auto& [name, tensor] : tensors) entries.push_back({name, tensor});
  return entries;
}

TEST(Flips, InAModelAreNoticedWhenItIsLoaded) {
  const test::TempFolder folder;
  const ModelDescription description{
      "1.2.3", {{"Body Location", {"abdomen", "kopf \xC3\xBC"}}, {"modality", {"CT", "MR"}}}, R"({"version": 1})"};
  save_model(folder.path(), "student_best", entries_of(some_tensors()), description);
  const auto file = folder / "student_best.safetensors";
  const auto entries = entries_of(some_tensors());
  test::expect_every_flip_is_noticed({file}, 1, [&] { load_model_weights(entries, file); });
  test::expect_every_flip_is_noticed({file}, 2, [&] { (void)Checkpoint::open(file).metadata(); });
}

TEST(Flips, InFilesWithoutADescriptionAreNoticedToo) {
  const test::TempFolder folder;
  save_tensors(folder / "tensors.safetensors", some_tensors());
  save_tensors(folder / "model.safetensors", some_tensors(), {{"format", "pt"}});
  const auto entries = entries_of(some_tensors());
  const BackboneNames names;
  test::expect_every_flip_is_noticed({folder / "tensors.safetensors", folder / "model.safetensors"}, 3, [&] {
    load_tensors(folder / "tensors.safetensors");
    load_backbone(entries, folder.path(), names);
  });
}

}  // namespace
}  // namespace mmkd
