#include "mmkd/weights/load.h"

#include <gtest/gtest.h>

#include "mmkd/base/files.h"
#include "tests/support/temp_folder.h"
#include "tests/weights/support.h"

namespace mmkd {
namespace {

using test::contains;
using test::counting;
using test::message_of;

class LoadBackbone : public ::testing::Test {
 protected:
  void save(const std::vector<NamedTensor>& tensors) { save_tensors(path(), tensors); }
  fs::path path() const { return folder_ / "model.safetensors"; }
  std::string error() {
    return message_of([&] { load_backbone(entries_, folder_.path(), names_of(TextFamily::bert)); });
  }

  test::TempFolder folder_;
  std::vector<nn::WeightEntry> entries_ = test::zero_entries({{"embeddings.word_embeddings.weight", {4, 2}},
                                                              {"embeddings.LayerNorm.weight", {2}},
                                                              {"embeddings.LayerNorm.bias", {2}}});
  const at::Tensor words_ = counting({4, 2}), gamma_ = counting({2}, 10), beta_ = counting({2}, 20);
};

TEST_F(LoadBackbone, FillsEveryEntry) {
  save({{"embeddings.word_embeddings.weight", words_},
        {"embeddings.LayerNorm.weight", gamma_},
        {"embeddings.LayerNorm.bias", beta_}});
  load_backbone(entries_, folder_.path(), names_of(TextFamily::bert));
  EXPECT_TRUE(entries_[0].view.equal(words_));
  EXPECT_TRUE(entries_[1].view.equal(gamma_));
  EXPECT_TRUE(entries_[2].view.equal(beta_));
}

TEST_F(LoadBackbone, AcceptsPrefixLegacyNamesAndHeads) {
  save({{"bert.embeddings.word_embeddings.weight", words_},
        {"bert.embeddings.LayerNorm.gamma", gamma_},
        {"bert.embeddings.LayerNorm.beta", beta_},
        {"bert.embeddings.position_ids", at::arange(4).unsqueeze(0)},
        {"bert.pooler.dense.bias", beta_},
        {"cls.predictions.bias", beta_}});
  load_backbone(entries_, path(), names_of(TextFamily::bert));
  EXPECT_TRUE(entries_[1].view.equal(gamma_));
  EXPECT_TRUE(entries_[2].view.equal(beta_));
}

TEST_F(LoadBackbone, ConvertsOtherFloatingPointTypes) {
  save({{"embeddings.word_embeddings.weight", words_.to(at::kHalf)},
        {"embeddings.LayerNorm.weight", gamma_.to(at::kBFloat16)},
        {"embeddings.LayerNorm.bias", beta_.to(at::kDouble)}});
  load_backbone(entries_, path(), names_of(TextFamily::bert));
  for (const auto& entry : entries_) EXPECT_EQ(entry.view.scalar_type(), at::kFloat);
  EXPECT_TRUE(entries_[0].view.equal(words_));  // small whole numbers are exact in all of these types
  EXPECT_TRUE(entries_[1].view.equal(gamma_));
  EXPECT_TRUE(entries_[2].view.equal(beta_));
}

TEST_F(LoadBackbone, WritesThroughViewsIntoParametersThatRequireGrad) {
  at::Tensor fused = at::zeros({6, 2}).requires_grad_();
  std::vector<nn::WeightEntry> entries{{"q", fused.detach().narrow(0, 0, 2)}, {"k", fused.detach().narrow(0, 2, 4)}};
  save({{"q", counting({2, 2}, 1)}, {"k", counting({4, 2}, 5)}});
  load_backbone(entries, path(), names_of(TextFamily::bert));
  EXPECT_TRUE(fused.equal(counting({6, 2}, 1)));
  EXPECT_TRUE(fused.requires_grad());
}

TEST_F(LoadBackbone, ListsEverythingThatIsWrongAndChangesNothing) {
  save({{"embeddings.word_embeddings.weight", counting({4, 3})},
        {"embeddings.LayerNorm.weight", at::arange(2)},
        {"encoder.layer.9.output.dense.bias", beta_}});
  const std::string message = error();
  EXPECT_EQ(message.rfind(path().string(), 0), 0u) << message;
  EXPECT_TRUE(contains(message, "4 problems")) << message;
  EXPECT_TRUE(contains(message, "wrong shape: embeddings.word_embeddings.weight: expected [4, 2], found [4, 3]"))
      << message;
  EXPECT_TRUE(contains(message, "wrong type: embeddings.LayerNorm.weight: expected floating-point numbers, found I64"))
      << message;
  EXPECT_TRUE(contains(message, "missing: embeddings.LayerNorm.bias [2]")) << message;
  EXPECT_TRUE(contains(message, "not known: encoder.layer.9.output.dense.bias [2]")) << message;
  for (const auto& entry : entries_) EXPECT_FALSE(entry.view.any().item<bool>()) << entry.name;
}

TEST_F(LoadBackbone, NamesAVocabularyThatDoesNotBelongToTheWeights) {
  save({{"embeddings.word_embeddings.weight", counting({7, 2})},
        {"embeddings.LayerNorm.weight", gamma_},
        {"embeddings.LayerNorm.bias", beta_}});
  EXPECT_TRUE(contains(error(), "the checkpoint has 7 rows, the tokenizer has 4 tokens")) << error();
}

TEST_F(LoadBackbone, RefusesTwoNamesForOneEntry) {
  save({{"embeddings.word_embeddings.weight", words_},
        {"bert.embeddings.word_embeddings.weight", words_},
        {"embeddings.LayerNorm.weight", gamma_},
        {"embeddings.LayerNorm.bias", beta_}});
  EXPECT_TRUE(contains(error(), "twice: ")) << error();
}

TEST_F(LoadBackbone, RefusesATruncatedFile) {
  save({{"embeddings.word_embeddings.weight", words_},
        {"embeddings.LayerNorm.weight", gamma_},
        {"embeddings.LayerNorm.bias", beta_}});
  const std::string whole = read_file(path());
  write_file_atomic(path(), whole.substr(0, whole.size() - 1));
  EXPECT_TRUE(contains(error(), "truncated")) << error();
}

TEST(LoadModelWeights, FillsAModelFromAnotherNamingAndGivesBackTheDistillationProjections) {
  const test::TempFolder folder;
  const std::vector<std::string> slugs{"modality", "location"};
  auto entries = test::zero_entries({{"proj_vis.weight", {2, 3}},
                                     {"fusion.encoder.layers.0.linear1.bias", {4}},
                                     {"head_modality.head.1.bias", {5}},
                                     {"head_location.head.1.bias", {2}}});
  save_tensors(folder / "w.safetensors", std::vector<NamedTensor>{{"proj_vis.weight", counting({2, 3}, 1)},
                                                                  {"fusion.layers.0.linear1.bias", counting({4}, 2)},
                                                                  {"head_mod.bias", counting({5}, 3)},
                                                                  {"head_loc.bias", counting({2}, 4)},
                                                                  {"kd.P_img.weight", counting({2, 2}, 5)}});
  const auto rest = load_model_weights(entries, folder / "w.safetensors", two_tower_aliases(slugs));
  EXPECT_TRUE(entries[0].view.equal(counting({2, 3}, 1)));
  EXPECT_TRUE(entries[1].view.equal(counting({4}, 2)));
  EXPECT_TRUE(entries[2].view.equal(counting({5}, 3)));
  EXPECT_TRUE(entries[3].view.equal(counting({2}, 4)));
  ASSERT_EQ(rest.size(), 1u);
  EXPECT_TRUE(rest.at("distill.proj_img.weight").equal(counting({2, 2}, 5)));
}

TEST(LoadModelWeights, PrefersTheNameOfAnEntryToAnAlias) {
  const test::TempFolder folder;
  auto entries = test::zero_entries({{"fusion.layers.0.weight", {2}}});
  save_tensors(folder / "w.safetensors", std::vector<NamedTensor>{{"fusion.layers.0.weight", counting({2}, 1)}});
  load_model_weights(entries, folder / "w.safetensors", two_tower_aliases({}));
  EXPECT_TRUE(entries[0].view.equal(counting({2}, 1)));
}

TEST(LoadModelWeights, FillsDistillationProjectionsThatAreEntries) {
  const test::TempFolder folder;
  auto entries = test::zero_entries({{"distill.proj_img.weight", {2}}});
  save_tensors(folder / "w.safetensors", std::vector<NamedTensor>{{"kd.P_img.weight", counting({2}, 1)}});
  EXPECT_TRUE(load_model_weights(entries, folder / "w.safetensors", two_tower_aliases({})).empty());
  EXPECT_TRUE(entries[0].view.equal(counting({2}, 1)));
}

TEST(LoadModelWeights, RefusesAHeadWithAnotherNumberOfClasses) {
  const test::TempFolder folder;
  auto entries = test::zero_entries({{"head_modality.head.1.bias", {5}}});
  save_tensors(folder / "w.safetensors", std::vector<NamedTensor>{{"head_modality.head.1.bias", counting({6})}});
  const std::string message = message_of([&] { load_model_weights(entries, folder / "w.safetensors"); });
  EXPECT_TRUE(contains(message, "wrong shape: head_modality.head.1.bias: expected [5], found [6]")) << message;
}

}  // namespace
}  // namespace mmkd
