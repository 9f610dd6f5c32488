#include "mmkd/weights/checkpoint.h"
#include "mmkd/formats/weight_files.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "mmkd/base/files.h"
#include "mmkd/weights/state_dict.h"
#include "tests/support/temp_folder.h"
#include "tests/weights/support.h"

namespace mmkd {
namespace {

using test::contains;
using test::message_of;

class Checkpoints : public ::testing::Test {
 protected:
  void save(const std::string& file, const std::vector<std::string>& names, double first = 0) {
    std::vector<NamedTensor> tensors;
    for (const auto& name : names) tensors.push_back({name, test::counting({2, 2}, first++)});
    save_tensors(folder_ / file, tensors);
  }
  void write_index(const nlohmann::json& weight_map) {
    write_file_atomic(folder_ / "model.safetensors.index.json",
                      nlohmann::json{{"metadata", {{"total_size", 32}}}, {"weight_map", weight_map}}.dump());
  }
  std::string open_error() const {
    return message_of([&] { Checkpoint::open(folder_.path()); });
  }

  test::TempFolder folder_;
};

TEST_F(Checkpoints, AreFoundInAFolderAsOneFile) {
  save("model.safetensors", {"b", "a"});
  const auto checkpoint = Checkpoint::open(folder_.path());
  EXPECT_EQ(checkpoint.names(), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(checkpoint.shape("a"), (std::vector<std::int64_t>{2, 2}));
  EXPECT_EQ(checkpoint.dtype("a"), DType::f32);
  EXPECT_TRUE(checkpoint.tensor("b").equal(test::counting({2, 2}, 0)));
  EXPECT_EQ(checkpoint.files(), std::vector<fs::path>{folder_ / "model.safetensors"});
}

TEST_F(Checkpoints, InShardsAreReadThroughTheirIndex) {
  save("model-00001-of-00002.safetensors", {"a"}, 1);
  save("model-00002-of-00002.safetensors", {"b"}, 2);
  write_index({{"a", "model-00001-of-00002.safetensors"}, {"b", "model-00002-of-00002.safetensors"}});
  const auto checkpoint = Checkpoint::open(folder_.path());
  EXPECT_TRUE(checkpoint.tensor("a").equal(test::counting({2, 2}, 1)));
  EXPECT_TRUE(checkpoint.tensor("b").equal(test::counting({2, 2}, 2)));
  EXPECT_EQ(checkpoint.files().size(), 3u);
  EXPECT_EQ(checkpoint.files(), weight_files(folder_.path()));
}

TEST_F(Checkpoints, WhoseShardLacksATensorOrIsMissingAreRefused) {
  save("model-1.safetensors", {"a"});
  write_index({{"a", "model-1.safetensors"}, {"weight", "model-1.safetensors"}});
  EXPECT_TRUE(contains(open_error(), "holds no tensor 'weight'")) << open_error();
  write_index({{"a", "model-9.safetensors"}});
  EXPECT_TRUE(contains(open_error(), "model-9.safetensors")) << open_error();
}

TEST_F(Checkpoints, WhoseIndexLeavesTheFolderAreRefused) {
  for (const char* file : {"../model.safetensors", "/etc/passwd", "..", "", "a/b.safetensors"}) {
    write_index({{"a", file}});
    EXPECT_TRUE(contains(open_error(), "no plain file name")) << file << ": " << open_error();
  }
}

TEST_F(Checkpoints, WithAMalformedIndexAreRefused) {
  const auto index = folder_ / "model.safetensors.index.json";
  for (const char* text :
       {"", "{", "[]", "{}", R"({"weight_map": []})", R"({"weight_map": {}})", R"({"weight_map": {"a": 1}})"}) {
    write_file_atomic(index, text);
    EXPECT_TRUE(contains(open_error(), index.string())) << text << ": " << open_error();
  }
}

TEST_F(Checkpoints, OfTorchSaveAreReadLikeSafetensors) {
  const auto weight = at::arange(6, at::kFloat).view({2, 3});
  const std::vector<NamedTensor> tensors{{"a", weight}, {"b", at::tensor({7, 8}, at::kLong)}};
  save_state_dict(folder_ / "pytorch_model.bin", tensors);
  for (const auto& path : {folder_.path(), folder_ / "pytorch_model.bin"}) {
    const auto checkpoint = Checkpoint::open(path);
    EXPECT_EQ(checkpoint.names(), (std::vector<std::string>{"a", "b"}));
    EXPECT_TRUE(at::equal(checkpoint.tensor("a"), weight));
    EXPECT_EQ(checkpoint.dtype("b"), DType::i64);
    EXPECT_EQ(checkpoint.files(), std::vector{folder_ / "pytorch_model.bin"});
  }
  write_file_atomic(folder_ / "pytorch_model.bin", "x");
  EXPECT_TRUE(contains(open_error(), "was not written by torch.save()")) << open_error();
}

TEST_F(Checkpoints, ThatAreNotThereAreAnError) {
  EXPECT_TRUE(contains(open_error(), "holds no weights")) << open_error();
  const std::string message = message_of([&] { Checkpoint::open(folder_ / "none"); });
  EXPECT_TRUE(contains(message, "no such weights")) << message;
}

}  // namespace
}  // namespace mmkd
