#include "mmkd/models/multimodal_model.h"

#include <ATen/autocast_mode.h>
#include <gtest/gtest.h>
#include <torch/autograd.h>

#include <algorithm>

#include "mmkd/base/error.h"
#include "tests/support/weight_checks.h"

namespace mmkd {
namespace {

ModelSpec small(double dropout = 0.0) {
  ModelSpec spec;
  spec.vision.hidden_size = 16;
  spec.vision.num_hidden_layers = 1;
  spec.vision.num_attention_heads = 2;
  spec.vision.image_size = 16;
  spec.vision.patch_size = 8;
  spec.vision.initializer_range = 0.3;
  spec.text.vocab_size = 30;
  spec.text.hidden_size = 12;
  spec.text.num_hidden_layers = 1;
  spec.text.num_attention_heads = 3;
  spec.text.max_position_embeddings = 10;
  spec.text.hidden_dropout = dropout;
  spec.text.initializer_range = 0.3;
  spec.fusion = {.type = FusionType::simple, .dim = 8, .heads = 2, .layers = 1, .hidden_mult = 2, .dropout = dropout};
  spec.head_dropout = dropout;
  spec.tasks = {{"modality", 2}, {"body_location", 5}};
  return spec;
}

ModelInput inputs() {
  auto generator = at::detail::createCPUGenerator(3);
  ModelInput input;
  input.pixels = at::randn({3, 3, 16, 16}, generator, at::kFloat);
  input.input_ids = at::tensor({1, 9, 4, 25, 2, 1, 17, 2, 0, 0, 1, 2, 0, 0, 0}, at::kLong).view({3, 5});
  input.attention_mask = input.input_ids.ne(0);
  return input;
}

nn::ForwardContext training() {
  return {.training = true, .seed = 1, .step = 2, .sample_keys = at::tensor({5, 6, 7}, at::kLong)};
}

std::vector<at::Tensor> tensors(const ModelOutput& output) {
  std::vector<at::Tensor> all{output.img_raw, output.txt_raw, output.img_proj, output.txt_proj};
  all.insert(all.end(), output.logits.begin(), output.logits.end());
  return all;
}

/// The CPU runs in bfloat16 while it lives.
class Bfloat16 {
 public:
  Bfloat16() {
    at::autocast::set_autocast_enabled(at::kCPU, true);
    at::autocast::set_autocast_dtype(at::kCPU, at::kBFloat16);
    at::autocast::increment_nesting();
  }
  ~Bfloat16() {
    if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
    at::autocast::set_autocast_enabled(at::kCPU, false);
  }
};

TEST(MultimodalModel, OutputsHaveTheirShapes) {
  const auto model = make_model(small(), 1);
  const ModelOutput output = model->forward(inputs(), {});
  EXPECT_EQ(output.img_raw.sizes(), (at::IntArrayRef{3, 16}));
  EXPECT_EQ(output.txt_raw.sizes(), (at::IntArrayRef{3, 12}));
  EXPECT_EQ(output.img_proj.sizes(), (at::IntArrayRef{3, 8}));
  EXPECT_EQ(output.txt_proj.sizes(), (at::IntArrayRef{3, 8}));
  ASSERT_EQ(output.logits.size(), 2U);
  EXPECT_EQ(output.logits[0].sizes(), (at::IntArrayRef{3, 2}));
  EXPECT_EQ(output.logits[1].sizes(), (at::IntArrayRef{3, 5}));
  EXPECT_FALSE(output.energy.defined());
  EXPECT_FALSE(output.route.defined());
}

TEST(MultimodalModel, NamesCoverEveryParameterOnce) {
  const auto model = make_model(small(), 1);
  expect_covers_parameters_once(*model, model->named_weights());
}

TEST(MultimodalModel, NamesSayWhichPartAWeightBelongsTo) {
  std::vector<std::string> names;
  for (const auto& entry : make_model(small(), 1)->named_weights()) names.push_back(entry.name);
  for (const std::string name : {"vision.embeddings.cls_token", "vision.encoder.layer.0.attention.attention.key.weight",
                                 "text.encoder.layer.0.attention.self.value.bias", "proj_vis.weight", "proj_txt.bias",
                                 "fusion.encoder.layers.0.self_attn.in_proj_weight", "head_modality.head.1.weight",
                                 "head_body_location.head.1.bias"}) {
    EXPECT_NE(std::find(names.begin(), names.end(), name), names.end()) << name;
  }
}

TEST(MultimodalModel, CountsItsParametersByPart) {
  const ParameterCounts counts = make_model(small(), 1)->parameter_counts();
  // Of a transformer layer of width d: 12 d² + 13 d.
  EXPECT_EQ(counts.vision, 16 + 5 * 16 + (16 * 192 + 16) + (12 * 256 + 13 * 16) + 32);
  EXPECT_EQ(counts.text, (30 + 10 + 2) * 12 + 24 + (12 * 144 + 13 * 12));
  EXPECT_EQ(counts.projections, 16 * 8 + 8 + 12 * 8 + 8);
  EXPECT_EQ(counts.fusion, 12 * 64 + 13 * 8);
  EXPECT_EQ(counts.heads, 8 * 2 + 2 + 8 * 5 + 5);
  EXPECT_EQ(counts.total(), counts.vision + counts.text + counts.projections + counts.fusion + counts.heads);
  EXPECT_EQ(parameter_counts(small()).total(), counts.total());
}

TEST(MultimodalModel, InitialWeightsDependOnTheSeedAlone) {
  const auto one = make_model(small(), 1)->named_weights();
  const auto same = make_model(small(), 1)->named_weights();
  const auto other = make_model(small(), 2)->named_weights();
  for (std::size_t i = 0; i < one.size(); ++i) {
    EXPECT_TRUE(at::equal(one[i].view, same[i].view)) << one[i].name;
    if (one[i].init.kind != nn::Init::Kind::constant) {
      EXPECT_FALSE(at::equal(one[i].view, other[i].view)) << one[i].name;
    }
  }
}

TEST(MultimodalModel, EveryParameterTakesPart) {
  for (const auto pooling : {TextPooling::cls, TextPooling::mean}) {
    for (const auto fusion :
         {FusionType::simple, FusionType::concat_mlp, FusionType::gated, FusionType::cross_attention, FusionType::film,
          FusionType::transformer_concat, FusionType::gated_mlp}) {
      auto spec = small(0.1);
      spec.text_pooling = pooling;
      spec.fusion.type = fusion;
      spec.fusion.layers = 2;
      const auto model = make_model(spec, 1);
      const auto output = model->forward(inputs(), training());
      (output.logits[0].pow(3).sum() + output.logits[1].pow(3).sum()).backward();
      for (const auto& parameter : model->named_parameters()) {
        ASSERT_TRUE(parameter.value().grad().defined()) << parameter.key();
        EXPECT_GT(parameter.value().grad().abs().max().item<float>(), 0) << parameter.key();
      }
    }
  }
}

TEST(MultimodalModel, TrainingDoesNotDependOnTheRestOfTheBatch) {
  const auto model = make_model(small(0.3), 1);
  const auto together = tensors(model->forward(inputs(), training()));
  ModelInput one = inputs();
  for (at::Tensor* tensor : {&one.pixels, &one.input_ids, &one.attention_mask}) *tensor = tensor->narrow(0, 1, 1);
  one.input_ids = one.input_ids.narrow(1, 0, 3);  // padded to its own length
  one.attention_mask = one.attention_mask.narrow(1, 0, 3);
  auto context = training();
  context.sample_keys = context.sample_keys.narrow(0, 1, 1);
  const auto alone = tensors(model->forward(one, context));
  for (std::size_t i = 0; i < together.size(); ++i) {
    EXPECT_TRUE(at::allclose(alone[i][0], together[i][1], 1e-4, 1e-5)) << i;
  }
}

TEST(MultimodalModel, MasksChangeWithStepAndSeed) {
  const auto model = make_model(small(0.3), 1);
  const auto base = model->forward(inputs(), training()).logits[0];
  auto context = training();
  EXPECT_TRUE(at::equal(model->forward(inputs(), context).logits[0], base));
  context.step = 3;
  EXPECT_FALSE(at::allclose(model->forward(inputs(), context).logits[0], base));
  context = training();
  context.seed = 2;
  EXPECT_FALSE(at::allclose(model->forward(inputs(), context).logits[0], base));
}

TEST(MultimodalModel, MeanPoolingLeavesPaddingOut) {
  auto spec = small();
  spec.text_pooling = TextPooling::mean;
  const auto model = make_model(spec, 1);
  const ModelInput input = inputs();
  const at::Tensor features = model->text()->forward_features(input.input_ids, input.attention_mask, {});
  const at::Tensor pooled = model->forward(input, {}).txt_raw;
  EXPECT_TRUE(at::allclose(pooled[0], features[0].mean(0), 1e-5, 1e-6));
  EXPECT_TRUE(at::allclose(pooled[1], features[1].narrow(0, 0, 3).mean(0), 1e-5, 1e-6));
  EXPECT_TRUE(at::allclose(pooled[2], features[2].narrow(0, 0, 2).mean(0), 1e-5, 1e-6));
}

TEST(MultimodalModel, AMissingModalityHasAZeroFeature) {
  const auto model = make_model(small(), 1);
  ModelInput input = inputs();
  const ModelOutput whole = model->forward(input, {});
  input.has_image = at::tensor({1, 0, 1}, at::kLong).to(at::kBool);
  input.has_text = at::tensor({1, 1, 0}, at::kLong).to(at::kBool);
  const ModelOutput output = model->forward(input, {});
  EXPECT_TRUE(at::equal(output.img_proj[0], whole.img_proj[0]));
  EXPECT_EQ(output.img_proj[1].abs().max().item<float>(), 0);
  EXPECT_EQ(output.txt_proj[2].abs().max().item<float>(), 0);
  EXPECT_TRUE(at::allclose(output.logits[0][0], whole.logits[0][0], 1e-5, 1e-6));
  EXPECT_FALSE(at::allclose(output.logits[0][1], whole.logits[0][1]));
}

TEST(MultimodalModel, OfOneModalityHasThatTowerAndHeadsAlone) {
  for (const auto modality : {Modality::image, Modality::text}) {
    auto spec = small();
    spec.modality = modality;
    const auto model = make_model(spec, 1);
    expect_covers_parameters_once(*model, model->named_weights());
    for (const auto& entry : model->named_weights()) {
      const bool of_image = entry.name.starts_with("vision.") || entry.name.starts_with("proj_vis.");
      const bool of_text = entry.name.starts_with("text.") || entry.name.starts_with("proj_txt.");
      EXPECT_TRUE(entry.name.starts_with("head_") || (modality == Modality::image ? of_image : of_text)) << entry.name;
    }
    ModelInput input = inputs();
    (modality == Modality::image ? input.input_ids : input.pixels) = at::Tensor();
    const auto again = make_model(spec, 1);
    const ModelOutput output = again->forward(input, {});
    EXPECT_EQ(output.img_proj.defined(), modality == Modality::image);
    EXPECT_EQ(output.txt_raw.defined(), modality == Modality::text);
    EXPECT_EQ(output.logits[1].sizes(), (at::IntArrayRef{3, 5}));
  }
}

TEST(MultimodalModel, Bfloat16StaysCloseToFloat32) {
  const auto model = make_model(small(0.2), 1);
  const auto exact = tensors(model->forward(inputs(), training()));
  std::vector<at::Tensor> rounded;
  {
    const Bfloat16 autocast;
    rounded = tensors(model->forward(inputs(), training()));
  }
  EXPECT_EQ(rounded.back().scalar_type(), at::kBFloat16);
  for (std::size_t i = 0; i < exact.size(); ++i) {
    // Values of about 1, three significant digits, a few roundings one after the other.
    EXPECT_TRUE(at::allclose(rounded[i].to(at::kFloat), exact[i], 0.05, 0.05)) << i;
  }
  rounded.back().to(at::kFloat).pow(2).sum().backward();
  for (const auto& parameter : model->named_parameters()) {
    if (!parameter.value().grad().defined()) continue;
    EXPECT_EQ(parameter.value().grad().scalar_type(), at::kFloat) << parameter.key();
    EXPECT_TRUE(at::isfinite(parameter.value().grad()).all().item<bool>()) << parameter.key();
  }
}

TEST(MultimodalModel, RefusesTasksThatCannotBe) {
  auto spec = small();
  spec.tasks = {};
  EXPECT_THROW(make_model(spec, 1), UsageError);
  spec.tasks = {{"a", 2}, {"a", 3}};
  EXPECT_THROW(make_model(spec, 1), UsageError);
  spec.tasks = {{"a", 0}};
  EXPECT_THROW(make_model(spec, 1), UsageError);
  spec.tasks = {{"a.b", 2}};
  EXPECT_THROW(make_model(spec, 1), UsageError);
}

TEST(MakeModelSpec, TakesTheModelsDropoutWhereTheFusionHasNone) {
  ModelConfig model;
  model.dropout = 0.25;
  model.fusion_dim = 64;
  model.fusion_layers = 2;
  FusionConfig fusion;
  fusion.type = FusionType::concat_mlp;
  ModelSpec spec = make_model_spec(model, fusion, {{"a", 2}});
  EXPECT_EQ(spec.fusion.dropout, 0.25);
  EXPECT_EQ(spec.head_dropout, 0.25);
  EXPECT_EQ(spec.fusion.dim, 64);
  EXPECT_EQ(spec.fusion.layers, 2);
  EXPECT_EQ(spec.fusion.type, FusionType::concat_mlp);
  fusion.dropout = 0.5;
  spec = make_model_spec(model, fusion, {{"a", 2}});
  EXPECT_EQ(spec.fusion.dropout, 0.5);
  EXPECT_EQ(spec.head_dropout, 0.25);
}

TEST(MakeModelSpec, OfTheCustomStudentHasAGateAndPlainHeads) {
  ModelConfig model;
  model.arch = StudentArch::custom_tiny;
  model.dropout = 0.3;
  FusionConfig fusion;
  fusion.type = FusionType::simple;
  const auto spec = make_model_spec(model, fusion, {{"a", 2}});
  EXPECT_EQ(spec.fusion.type, FusionType::gated_mlp);
  EXPECT_EQ(spec.head_dropout, 0);
}

}  // namespace
}  // namespace mmkd
