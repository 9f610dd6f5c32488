#include "vit.h"

#include <fmt/ranges.h>

#include "mmkd/base/error.h"
#include "mmkd/nn/linear.h"

namespace mmkd {
namespace {

// B batch, H/W picture, p patch size, R/C rows and columns of patches, N tokens, D width

constexpr const char* kVisionTower = "vision tower";

void check(const VisionConfig& config) {
  if (config.patch_size < 1 || config.image_size < config.patch_size) {
    throw UsageError("{}: image_size {} must hold at least one patch of patch_size {}", kVisionTower, config.image_size,
                     config.patch_size);
  }
}

nn::TransformerSpec transformer_spec(const VisionConfig& config) {
  return {.width = config.hidden_size,
          .layers = config.num_hidden_layers,
          .heads = config.num_attention_heads,
          .intermediate = config.intermediate_size > 0 ? config.intermediate_size : 4 * config.hidden_size,
          .activation = nn::activation_from_name(config.hidden_act, kVisionTower),
          .norm = nn::NormPlacement::before,
          .layer_norm_eps = config.layer_norm_eps,
          .qkv_bias = config.qkv_bias,
          .attention_output_dropout = config.hidden_dropout,
          .activation_dropout = 0,
          .output_dropout = config.hidden_dropout};
}

const nn::TransformerNames kVitNames{
    .attention = {.query = "attention.attention.query.",
                  .key = "attention.attention.key.",
                  .value = "attention.attention.value.",
                  .fused = "",
                  .output = "attention.output.dense."},
    .attention_norm = "layernorm_before.",
    .feed_forward_in = "intermediate.dense.",
    .feed_forward_out = "output.dense.",
    .output_norm = "layernorm_after.",
};

}  // namespace

Vit::Vit(const VisionConfig& config) : config_(config) {
  check(config);
  // First of all modules, so that sizes are checked before tensors are made of them.
  layers_ = register_module("layers", std::make_shared<nn::Transformer>(transformer_spec(config), kVisionTower));
  const std::int64_t width = config.hidden_size;
  class_token_ = register_parameter("class_token", at::empty({1, 1, width}, at::kFloat));
  if (distilled()) distillation_token_ = register_parameter("distillation_token", at::empty({1, 1, width}, at::kFloat));
  position_embeddings_ =
      register_parameter("position_embeddings", at::empty({1, special_tokens() + grid() * grid(), width}, at::kFloat));
  patch_weight_ =
      register_parameter("patch_weight", at::empty({width, 3, config.patch_size, config.patch_size}, at::kFloat));
  patch_bias_ = register_parameter("patch_bias", at::empty({width}, at::kFloat));
  dropout_ = register_module("embedding_dropout", std::make_shared<nn::Dropout>(config.hidden_dropout));
  norm_ = register_module("norm", std::make_shared<nn::LayerNorm>(width, config.layer_norm_eps));
}

/// Patches do not overlap, so the convolution is one matrix product: [B, R·C, D].
at::Tensor Vit::embed_patches(const at::Tensor& pixels, std::int64_t rows, std::int64_t columns) const {
  const std::int64_t p = config_.patch_size;
  const at::Tensor covered = pixels.narrow(2, 0, rows * p).narrow(3, 0, columns * p);
  const at::Tensor patches = covered.reshape({pixels.size(0), 3, rows, p, columns, p})
                                 .permute({0, 2, 4, 1, 3, 5})  // [B, R, C, 3, p, p]
                                 .reshape({pixels.size(0), rows * columns, 3 * p * p});
  return nn::linear(patches, patch_weight_.flatten(1), patch_bias_);
}

/// Position embeddings for R x C patches, [1, N, D]. The special tokens keep theirs.
at::Tensor Vit::positions(std::int64_t rows, std::int64_t columns) const {
  if (rows == grid() && columns == grid()) return position_embeddings_;
  const at::Tensor special = position_embeddings_.narrow(1, 0, special_tokens());
  const at::Tensor of_patches = position_embeddings_.narrow(1, special_tokens(), grid() * grid())
                                    .unflatten(1, {grid(), grid()})
                                    .permute({0, 3, 1, 2});  // [1, D, grid, grid]
  const at::Tensor resized = at::upsample_bicubic2d(of_patches, {rows, columns}, /*align_corners=*/false);
  return at::cat({special, resized.flatten(2).transpose(1, 2)}, 1);
}

at::Tensor Vit::embed(const at::Tensor& pixels, const nn::ForwardContext& context) const {
  if (pixels.dim() != 4 || pixels.size(1) != 3) {
    throw Error("{}: pixels [B, 3, H, W] are expected, found [{}]", kVisionTower, fmt::join(pixels.sizes(), ", "));
  }
  const std::int64_t rows = pixels.size(2) / config_.patch_size;
  const std::int64_t columns = pixels.size(3) / config_.patch_size;
  if (rows < 1 || columns < 1) {
    throw Error("{}: pictures of {}x{} are smaller than a patch of {}", kVisionTower, pixels.size(2), pixels.size(3),
                config_.patch_size);
  }
  std::vector<at::Tensor> tokens{class_token_.expand({pixels.size(0), -1, -1})};
  if (distilled()) tokens.push_back(distillation_token_.expand({pixels.size(0), -1, -1}));
  tokens.push_back(embed_patches(pixels, rows, columns));
  return dropout_->forward(at::cat(tokens, 1) + positions(rows, columns), context);  // [B, N, D]
}

at::Tensor Vit::forward_features(const at::Tensor& pixels, const nn::ForwardContext& context) const {
  return norm_->forward(layers_->forward(embed(pixels, context), {}, context));
}

at::Tensor Vit::forward(const at::Tensor& pixels, const nn::ForwardContext& context) const {
  return norm_->forward(layers_->forward_first(embed(pixels, context), {}, context));
}

void Vit::collect_weights(const std::string& prefix, std::vector<nn::WeightEntry>& entries) const {
  using nn::Init;
  // DeiTModel begins its tokens and positions with zeros, ViTModel with small random numbers.
  const Init embedding = distilled() ? Init::zeros() : Init::truncated_normal(config_.initializer_range);
  const std::string at = prefix + "embeddings.";
  add_weight(entries, at + "cls_token", class_token_, embedding);
  if (distilled()) add_weight(entries, at + "distillation_token", distillation_token_, embedding);
  add_weight(entries, at + "position_embeddings", position_embeddings_, embedding);
  add_weight(entries, at + "patch_embeddings.projection.weight", patch_weight_,
             Init::normal(config_.initializer_range));
  add_weight(entries, at + "patch_embeddings.projection.bias", patch_bias_, Init::zeros());
  layers_->collect_weights(prefix + "encoder.layer.", kVitNames,
                           nn::InitScheme::hugging_face(config_.initializer_range), entries);
  norm_->collect_weights(prefix + "layernorm.", entries);
}

}  // namespace mmkd
