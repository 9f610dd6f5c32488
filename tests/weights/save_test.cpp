#include "mmkd/weights/save.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <chrono>
#include <csignal>
#include <thread>

#include "mmkd/base/files.h"
#include "mmkd/weights/load.h"
#include "mmkd/weights/state_dict.h"
#include "tests/support/temp_folder.h"
#include "tests/weights/support.h"

namespace mmkd {
namespace {

const ModelDescription kDescription{
    "1.2.3", {{"Body Location", {"abdomen", "kopf \xC3\xBC"}}, {"modality", {"CT", "MR"}}}, R"({"version": 1})"};

std::vector<nn::WeightEntry> some_entries() {
  const at::Tensor fused = test::counting({6, 4});
  return {{"q", fused.narrow(0, 0, 2)}, {"k", fused.narrow(0, 2, 4)}, {"scalar", at::tensor(3.0f).squeeze()}};
}

TEST(SaveModel, WritesSafetensorsThatLoadAgain) {
  const test::TempFolder folder;
  save_model(folder.path(), "student_best", some_entries(), kDescription);
  auto entries = test::zero_entries({{"q", {2, 4}}, {"k", {4, 4}}, {"scalar", {}}});
  load_model_weights(entries, folder / "student_best.safetensors");
  const auto saved = some_entries();
  for (std::size_t i = 0; i < saved.size(); ++i) EXPECT_TRUE(entries[i].view.equal(saved[i].view)) << saved[i].name;
}

TEST(SaveModel, KeepsTasksAndClassesInTheMetadata) {
  const test::TempFolder folder;
  save_model(folder.path(), "m", some_entries(), kDescription);
  const SafetensorsFile file(folder / "m.safetensors");
  EXPECT_EQ(file.header().metadata.at("format"), "pt");
  const auto description = description_of(file.header().metadata, "m");
  EXPECT_EQ(description.version, "1.2.3");
  ASSERT_EQ(description.tasks.size(), 2u);
  EXPECT_EQ(description.tasks[0].label, "Body Location");
  EXPECT_EQ(description.tasks[0].classes, kDescription.tasks[0].classes);
  EXPECT_EQ(description.tasks[1].classes, kDescription.tasks[1].classes);
}

TEST(SaveModel, GivesTheSameBytesAtAnotherTime) {
  const test::TempFolder folder;
  save_model(folder / "first", "m", some_entries(), kDescription);
  std::this_thread::sleep_for(std::chrono::milliseconds(2100));  // zip archives count time in steps of two seconds
  save_model(folder / "second", "m", some_entries(), kDescription);
  EXPECT_EQ(read_file(folder / "first/m.safetensors"), read_file(folder / "second/m.safetensors"));
  EXPECT_EQ(read_file(folder / "first/m.pth"), read_file(folder / "second/m.pth"));
}

TEST(SaveModel, LeavesTheOldFilesWhenItFails) {
  const test::TempFolder folder;
  save_model(folder.path(), "m", some_entries(), kDescription);
  const std::string before = read_file(folder / "m.safetensors");
  const std::vector<nn::WeightEntry> twice{{"a", at::zeros({1})}, {"a", at::zeros({1})}};
  EXPECT_THROW(save_model(folder.path(), "m", twice, kDescription), Error);
  EXPECT_EQ(read_file(folder / "m.safetensors"), before);
  EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), fs::directory_iterator()), 2);
}

TEST(DescriptionOf, RefusesMetadataThatMmkdDidNotWrite) {
  EXPECT_THROW(description_of({{"format", "pt"}}, "f"), Error);
  EXPECT_THROW(description_of({{"mmkd_version", "1"}}, "f"), Error);
  for (const char* tasks :
       {"", "{}x", "[1]", R"([{"label": 1, "classes": []}])", R"([{"label": "a", "classes": [1]}])"}) {
    EXPECT_THROW(description_of({{"mmkd_version", "1"}, {"tasks", tasks}}, "f"), Error) << tasks;
  }
}

TEST(SaveStateDict, StoresOnlyTheElementsOfAView) {
  const test::TempFolder folder;
  const at::Tensor large = at::zeros({1000, 1000});
  save_state_dict(folder / "v.pth", std::vector<NamedTensor>{{"row", large[3]}});
  EXPECT_LT(fs::file_size(folder / "v.pth"), 16'000u);
}

TEST(SaveStateDict, RefusesTheSameNameTwice) {
  const test::TempFolder folder;
  const std::vector<NamedTensor> twice{{"a", at::zeros({1})}, {"a", at::zeros({1})}};
  EXPECT_THROW(save_state_dict(folder / "x.pth", twice), Error);
  EXPECT_TRUE(fs::is_empty(folder.path()));
}

TEST(SaveStateDict, EndsInAnErrorWhenTheDiskIsFull) {
  const test::TempFolder folder;
  struct rlimit before {};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
  const struct rlimit small { 4096, before.rlim_max };  // a write past it fails, as on a full disk
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  EXPECT_THROW(save_state_dict(folder / "x.pth", std::vector<NamedTensor>{{"a", at::zeros({10000})}}), Error);
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  std::signal(SIGXFSZ, old_handler);
  EXPECT_TRUE(fs::is_empty(folder.path()));
}

TEST(SaveStateDict, LeavesNothingWhereTheArchiveCannotBePutInPlace) {
  const test::TempFolder folder;
  fs::create_directory(folder / "x.pth");  // no file can be renamed over a folder
  EXPECT_THROW(save_state_dict(folder / "x.pth", std::vector<NamedTensor>{{"a", at::zeros({1})}}), Error);
  EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), fs::directory_iterator()), 1);
}

}  // namespace
}  // namespace mmkd
