#include "bert.h"

#include <fmt/ranges.h>

#include "mmkd/base/error.h"
#include "mmkd/nn/embedding.h"

namespace mmkd {
namespace {

// B batch, S tokens, D width

constexpr const char* kTextTower = "text tower";

nn::TransformerSpec transformer_spec(const TextConfig& config, const BertVariant& variant) {
  return {.width = config.hidden_size,
          .layers = config.num_hidden_layers,
          .heads = config.num_attention_heads,
          .intermediate = config.intermediate_size > 0 ? config.intermediate_size : 4 * config.hidden_size,
          .activation = nn::activation_from_name(config.hidden_act, kTextTower),
          .norm = variant.norm,
          .layer_norm_eps = config.layer_norm_eps,
          .qkv_bias = true,
          .attention_output_dropout = variant.drops_attention_output ? config.hidden_dropout : 0,
          .activation_dropout = 0,
          .output_dropout = config.hidden_dropout};
}

at::Tensor as_attention_mask(const at::Tensor& mask) { return mask.unsqueeze(1).unsqueeze(1); }  // [B, 1, 1, S]

}  // namespace

void check_text_config(const TextConfig& config, bool token_types) {
  if (config.vocab_size < 1)
    throw UsageError("{}: vocab_size {}: the size of the tokenizer's vocabulary is needed", kTextTower,
                     config.vocab_size);
  if (config.pad_token_id < 0 || config.pad_token_id >= config.vocab_size) {
    throw UsageError("{}: pad_token_id {} lies outside the vocabulary of {}", kTextTower, config.pad_token_id,
                     config.vocab_size);
  }
  if (longest_text(config) < 1) {
    throw UsageError("{}: max_position_embeddings {} leaves no position for a token", kTextTower,
                     config.max_position_embeddings);
  }
  if (token_types && config.type_vocab_size < 1) {
    throw UsageError("{}: type_vocab_size {} must be positive", kTextTower, config.type_vocab_size);
  }
}

void check_text_input(const at::Tensor& input_ids, const at::Tensor& attention_mask, std::int64_t longest) {
  if (input_ids.dim() != 2 || attention_mask.sizes() != input_ids.sizes() ||
      attention_mask.scalar_type() != at::kBool) {
    throw Error("{}: input_ids [B, S] and a bool attention_mask of the same shape are expected, found [{}] and {} [{}]",
                kTextTower, fmt::join(input_ids.sizes(), ", "), c10::toString(attention_mask.scalar_type()),
                fmt::join(attention_mask.sizes(), ", "));
  }
  if (input_ids.size(1) > longest) {
    throw Error("{}: a text of {} tokens is longer than the {} positions of the tower; lower data.max_length",
                kTextTower, input_ids.size(1), longest);
  }
}

BertVariant bert_variant() {
  return {.layers = "encoder.layer.",
          .names = {.attention = {.query = "attention.self.query.",
                                  .key = "attention.self.key.",
                                  .value = "attention.self.value.",
                                  .fused = "",
                                  .output = "attention.output.dense."},
                    .attention_norm = "attention.output.LayerNorm.",
                    .feed_forward_in = "intermediate.dense.",
                    .feed_forward_out = "output.dense.",
                    .output_norm = "output.LayerNorm."},
          .token_types = true,
          .drops_attention_output = true};
}

BertVariant distilbert_variant() {
  return {.layers = "transformer.layer.",
          .names = {.attention = {.query = "attention.q_lin.",
                                  .key = "attention.k_lin.",
                                  .value = "attention.v_lin.",
                                  .fused = "",
                                  .output = "attention.out_lin."},
                    .attention_norm = "sa_layer_norm.",
                    .feed_forward_in = "ffn.lin1.",
                    .feed_forward_out = "ffn.lin2.",
                    .output_norm = "output_layer_norm."},
          .token_types = false,
          .drops_attention_output = false};
}

BertVariant roberta_variant() {
  auto variant = bert_variant();
  variant.counts_from_padding = true;
  return variant;
}

BertVariant custom_text_variant() {
  auto variant = bert_variant();
  variant.token_types = false;
  variant.norm = nn::NormPlacement::before;
  return variant;
}

Bert::Bert(const TextConfig& config, BertVariant variant) : config_(config), variant_(std::move(variant)) {
  check_text_config(config_, variant_.token_types);
  // First of all modules, so that sizes are checked before tensors are made of them.
  layers_ =
      register_module("layers", std::make_shared<nn::Transformer>(transformer_spec(config_, variant_), kTextTower));
  const std::int64_t width = config_.hidden_size;
  word_embeddings_ = register_parameter("word_embeddings", at::empty({config_.vocab_size, width}, at::kFloat));
  position_embeddings_ =
      register_parameter("position_embeddings", at::empty({config_.max_position_embeddings, width}, at::kFloat));
  if (variant_.token_types) {
    token_type_embeddings_ =
        register_parameter("token_type_embeddings", at::empty({config_.type_vocab_size, width}, at::kFloat));
  }
  norm_ = register_module("embedding_norm", std::make_shared<nn::LayerNorm>(width, config_.layer_norm_eps));
  dropout_ = register_module("embedding_dropout", std::make_shared<nn::Dropout>(config_.hidden_dropout));
}

/// Position embeddings, [S, D] or [B, S, D].
at::Tensor Bert::positions(const at::Tensor& input_ids) const {
  if (!variant_.counts_from_padding) return position_embeddings_.narrow(0, 0, input_ids.size(1));
  const at::Tensor real = input_ids.ne(config_.pad_token_id).to(at::kLong);  // [B, S]
  const at::Tensor numbers = real.cumsum(1) * real + config_.pad_token_id;
  return nn::embedding(position_embeddings_, numbers, config_.pad_token_id);
}

at::Tensor Bert::after_layers(const at::Tensor& x) const {
  return variant_.norm == nn::NormPlacement::before ? norm_->forward(x) : x;
}

at::Tensor Bert::embed(const at::Tensor& input_ids, const nn::ForwardContext& context) const {
  at::Tensor x = nn::embedding(word_embeddings_, input_ids, config_.pad_token_id);  // [B, S, D]
  at::Tensor added = positions(input_ids);
  if (variant_.token_types) added = added + token_type_embeddings_.select(0, 0);
  x = x + added;
  return dropout_->forward(variant_.norm == nn::NormPlacement::after ? norm_->forward(x) : x, context);
}

/// Packed tokens [T, D] as they enter the layers.
at::Tensor Bert::embed_packed(const at::Tensor& input_ids, const nn::TokenLayout& layout,
                              const nn::ForwardContext& context) const {
  at::Tensor numbers = layout.positions();
  if (variant_.counts_from_padding) numbers = numbers + (config_.pad_token_id + 1);
  at::Tensor x = nn::embedding(word_embeddings_, layout.pack(input_ids), config_.pad_token_id);
  x = x + nn::embedding(position_embeddings_, numbers);
  if (variant_.token_types) x = x + token_type_embeddings_.select(0, 0);
  return dropout_->forward(variant_.norm == nn::NormPlacement::after ? norm_->forward(x) : x, layout, context);
}

/// Without padding where the device has the kernels for it and texts are padded on the right; a token that is the
/// padding token though the mask calls it real has no position of its own in RoBERTa.
std::optional<nn::TokenLayout> Bert::packed_layout(const at::Tensor& input_ids, const TextMask& attention_mask) const {
  // What a mask on a device says would have to be waited for.
  if (!input_ids.is_cpu() && !attention_mask.lengths.defined()) return std::nullopt;
  if (!layers_->serves_packed(word_embeddings_)) return std::nullopt;
  if (!input_ids.is_cpu())
    return nn::TokenLayout::of_lengths(attention_mask.lengths, input_ids.size(1), input_ids.device());
  if (variant_.counts_from_padding && !at::equal(input_ids.ne(config_.pad_token_id), attention_mask.mask))
    return std::nullopt;
  return nn::TokenLayout::of_mask(attention_mask.mask);
}

at::Tensor Bert::forward_features(const at::Tensor& input_ids, const TextMask& attention_mask,
                                  const nn::ForwardContext& context) const {
  check_text_input(input_ids, attention_mask.mask, longest_text(config_));
  if (const auto layout = packed_layout(input_ids, attention_mask))
    return layout->unpack(after_layers(layers_->forward(embed_packed(input_ids, *layout, context), *layout, context)));
  return after_layers(layers_->forward(embed(input_ids, context), as_attention_mask(attention_mask.mask), context));
}

at::Tensor Bert::forward(const at::Tensor& input_ids, const TextMask& attention_mask,
                         const nn::ForwardContext& context) const {
  check_text_input(input_ids, attention_mask.mask, longest_text(config_));
  if (const auto layout = packed_layout(input_ids, attention_mask))
    return after_layers(layers_->forward_first(embed_packed(input_ids, *layout, context), *layout, context));
  return after_layers(
      layers_->forward_first(embed(input_ids, context), as_attention_mask(attention_mask.mask), context));
}

void Bert::collect_weights(const std::string& prefix, std::vector<nn::WeightEntry>& entries) const {
  using nn::Init;
  const Init normal = Init::normal(config_.initializer_range);
  Init words = normal;
  words.zero_row = config_.pad_token_id;
  const std::string at = prefix + "embeddings.";
  add_weight(entries, at + "word_embeddings.weight", word_embeddings_, words);
  add_weight(entries, at + "position_embeddings.weight", position_embeddings_, normal);
  if (variant_.token_types) add_weight(entries, at + "token_type_embeddings.weight", token_type_embeddings_, normal);
  norm_->collect_weights(variant_.norm == nn::NormPlacement::after ? at + "LayerNorm." : prefix + "layernorm.",
                         entries);
  layers_->collect_weights(prefix + variant_.layers, variant_.names,
                           nn::InitScheme::hugging_face(config_.initializer_range), entries);
}

}  // namespace mmkd
