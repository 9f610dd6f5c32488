#include "mobilebert.h"

#include <fmt/ranges.h>

#include "bert.h"
#include "mmkd/base/error.h"
#include "mmkd/nn/embedding.h"

namespace mmkd {
namespace {

// B batch, S tokens, D width, T width inside a layer (the bottleneck's, or D), H heads

constexpr const char* kMobileBert = "text tower (mobilebert)";
constexpr double kTorchNormEps = 1e-5;  // of norms that the reference makes without passing its own

bool is_no_norm(const TextConfig& config) { return config.mobilebert.normalization_type == "no_norm"; }

std::int64_t hidden_width(const TextConfig& config) {
  return config.intermediate_size > 0 ? config.intermediate_size : 4 * config.hidden_size;
}

std::int64_t inner_width(const TextConfig& config) {
  return config.mobilebert.use_bottleneck ? config.mobilebert.intra_bottleneck_size : config.hidden_size;
}

void check(const TextConfig& config) {
  check_text_config(config, /*token_types=*/true);
  const auto& net = config.mobilebert;
  if (net.normalization_type != "no_norm" && net.normalization_type != "layer_norm")
    throw UsageError("{}: normalization_type: expected no_norm or layer_norm, found '{}'", kMobileBert,
                     net.normalization_type);
  if (config.hidden_size < 1 || config.num_attention_heads < 1 || config.num_hidden_layers < 0 ||
      config.intermediate_size < 0 || net.embedding_size < 1 || net.intra_bottleneck_size < 1 ||
      net.num_feedforward_networks < 1) {
    throw UsageError("{}: sizes must be positive", kMobileBert);
  }
  if (inner_width(config) % config.num_attention_heads != 0)
    throw UsageError("{}: the width {} is no multiple of the number of heads {}", kMobileBert, inner_width(config),
                     config.num_attention_heads);
}

}  // namespace

MobileBertNorm::MobileBertNorm(std::int64_t width, double eps, bool no_norm) : eps_(eps), no_norm_(no_norm) {
  weight_ = register_parameter("weight", at::empty({width}, at::kFloat));
  bias_ = register_parameter("bias", at::empty({width}, at::kFloat));
}

at::Tensor MobileBertNorm::forward(const at::Tensor& x) const {
  if (no_norm_) return x * weight_ + bias_;
  return at::layer_norm(x, weight_.sizes(), weight_, bias_, eps_, /*cudnn_enable=*/true);
}

void MobileBertNorm::collect_weights(const std::string& prefix, std::vector<nn::WeightEntry>& entries) const {
  add_weight(entries, prefix + "weight", weight_, nn::Init::ones());
  add_weight(entries, prefix + "bias", bias_, nn::Init::zeros());
}

MobileBertProjection::MobileBertProjection(std::int64_t inputs, std::int64_t outputs, double eps, bool no_norm,
                                           double dropout) {
  dense_ = register_module("dense", std::make_shared<nn::Linear>(inputs, outputs));
  dropout_ = register_module("dropout", std::make_shared<nn::Dropout>(dropout));
  norm_ = register_module("norm", std::make_shared<MobileBertNorm>(outputs, eps, no_norm));
}

at::Tensor MobileBertProjection::forward(const at::Tensor& x, const at::Tensor& residual,
                                         const nn::ForwardContext& context) const {
  const at::Tensor y = dropout_->forward(dense_->forward(x), context);
  return norm_->forward(residual.defined() ? y + residual : y);
}

void MobileBertProjection::collect_weights(const std::string& prefix, const nn::InitScheme& scheme,
                                           std::vector<nn::WeightEntry>& entries) const {
  dense_->collect_weights(prefix + "dense.", scheme, entries);
  norm_->collect_weights(prefix + "LayerNorm.", entries);
}

MobileBertLayer::MobileBertLayer(const TextConfig& config)
    : config_(config.mobilebert),
      heads_(config.num_attention_heads),
      activation_(nn::activation_from_name(config.hidden_act, kMobileBert)) {
  const std::int64_t outer = config.hidden_size, inner = inner_width(config);
  const bool bottleneck = config_.use_bottleneck, no_norm = is_no_norm(config);
  const double eps = config.layer_norm_eps;
  const bool narrow_keys = bottleneck && (config_.use_bottleneck_attention || config_.key_query_shared_bottleneck);
  const auto linear = [&](const std::string& name, std::int64_t inputs, std::int64_t outputs) {
    return register_module(name, std::make_shared<nn::Linear>(inputs, outputs));
  };
  const auto projection = [&](const std::string& name, std::int64_t inputs, std::int64_t outputs, double norm_eps,
                              double dropout = 0) {
    return register_module(name, std::make_shared<MobileBertProjection>(inputs, outputs, norm_eps, no_norm, dropout));
  };
  if (!narrow_keys && inner != outer)
    throw UsageError("{}: without a bottleneck for keys and queries intra_bottleneck_size must be hidden_size",
                     kMobileBert);
  query_ = linear("query", inner, inner);
  key_ = linear("key", inner, inner);
  value_ = linear("value", config_.use_bottleneck_attention ? inner : outer, inner);
  const double inner_dropout = bottleneck ? 0 : config.hidden_dropout;
  attention_output_ = projection("attention_output", inner, inner, eps, inner_dropout);
  if (bottleneck) {
    input_bottleneck_ = projection("input_bottleneck", outer, inner, eps);
    if (config_.key_query_shared_bottleneck)
      attention_bottleneck_ = projection("attention_bottleneck", outer, inner, eps);
    output_bottleneck_ = projection("output_bottleneck", inner, outer, eps, config.hidden_dropout);
  }
  for (std::int64_t i = 0; i < config_.num_feedforward_networks; ++i) {
    const bool last = i + 1 == config_.num_feedforward_networks;
    const auto number = std::to_string(i);
    networks_.push_back({linear("in" + number, inner, hidden_width(config)),
                         projection("out" + number, hidden_width(config), inner, last ? kTorchNormEps : eps,
                                    last ? inner_dropout : 0)});
  }
}

/// query_key [B, S, T], value [B, S, T or D] -> [B, S, T]
at::Tensor MobileBertLayer::attend(const at::Tensor& query_key, const at::Tensor& value, const at::Tensor& mask) const {
  const auto split = [&](const at::Tensor& x) {
    return x.unflatten(-1, {heads_, x.size(-1) / heads_}).transpose(1, 2);  // [B, H, S, T / H]
  };
  const at::Tensor attended = at::scaled_dot_product_attention(
      split(query_->forward(query_key)), split(key_->forward(query_key)), split(value_->forward(value)), mask);
  return attended.transpose(1, 2).flatten(2);
}

at::Tensor MobileBertLayer::hidden(const FeedForward& network, const at::Tensor& x) const {
  return nn::activate(activation_, network.in->forward(x));
}

at::Tensor MobileBertLayer::forward(const at::Tensor& x, const at::Tensor& mask,
                                    const nn::ForwardContext& context) const {
  at::Tensor narrow = x, query_key = x, value = x;
  if (input_bottleneck_) {
    narrow = input_bottleneck_->forward(x, {}, context);
    if (config_.use_bottleneck_attention) {
      query_key = value = narrow;
    } else if (attention_bottleneck_) {
      query_key = attention_bottleneck_->forward(x, {}, context);
    }
  }
  at::Tensor y = attention_output_->forward(attend(query_key, value, mask), narrow, context);
  for (const auto& network : networks_) y = network.out->forward(hidden(network, y), y, context);
  return output_bottleneck_ ? output_bottleneck_->forward(y, x, context) : y;
}

void MobileBertLayer::collect_weights(const std::string& prefix, const nn::InitScheme& scheme,
                                      std::vector<nn::WeightEntry>& entries) const {
  query_->collect_weights(prefix + "attention.self.query.", scheme, entries);
  key_->collect_weights(prefix + "attention.self.key.", scheme, entries);
  value_->collect_weights(prefix + "attention.self.value.", scheme, entries);
  attention_output_->collect_weights(prefix + "attention.output.", scheme, entries);
  for (std::size_t i = 0; i < networks_.size(); ++i) {
    const bool last = i + 1 == networks_.size();
    const std::string at = last ? prefix : prefix + "ffn." + std::to_string(i) + ".";
    networks_[i].in->collect_weights(at + "intermediate.dense.", scheme, entries);
    networks_[i].out->collect_weights(at + "output.", scheme, entries);
  }
  if (!input_bottleneck_) return;
  output_bottleneck_->collect_weights(prefix + "output.bottleneck.", scheme, entries);
  input_bottleneck_->collect_weights(prefix + "bottleneck.input.", scheme, entries);
  if (attention_bottleneck_) attention_bottleneck_->collect_weights(prefix + "bottleneck.attention.", scheme, entries);
}

MobileBert::MobileBert(const TextConfig& config) : config_(config) {
  check(config);
  const std::int64_t width = config.hidden_size, words = config.mobilebert.embedding_size;
  word_embeddings_ = register_parameter("word_embeddings", at::empty({config.vocab_size, words}, at::kFloat));
  position_embeddings_ =
      register_parameter("position_embeddings", at::empty({config.max_position_embeddings, width}, at::kFloat));
  token_type_embeddings_ =
      register_parameter("token_type_embeddings", at::empty({config.type_vocab_size, width}, at::kFloat));
  const bool trigrams = config.mobilebert.trigram_input;
  if (trigrams || words != width) {
    transformation_ =
        register_module("transformation", std::make_shared<nn::Linear>(words * (trigrams ? 3 : 1), width));
  }
  norm_ = register_module("norm", std::make_shared<MobileBertNorm>(width, kTorchNormEps, is_no_norm(config)));
  dropout_ = register_module("embedding_dropout", std::make_shared<nn::Dropout>(config.hidden_dropout));
  for (std::int64_t i = 0; i < config.num_hidden_layers; ++i)
    layers_.push_back(register_module("layer" + std::to_string(i), std::make_shared<MobileBertLayer>(config)));
}

at::Tensor MobileBert::embed(const at::Tensor& input_ids, const nn::ForwardContext& context) const {
  at::Tensor x = nn::embedding(word_embeddings_, input_ids, config_.pad_token_id);  // [B, S, words]
  if (config_.mobilebert.trigram_input) {
    const std::int64_t last = x.size(1) - 1;
    const at::Tensor next = at::constant_pad_nd(x.narrow(1, 1, last), {0, 0, 0, 1}, 0);
    const at::Tensor previous = at::constant_pad_nd(x.narrow(1, 0, last), {0, 0, 1, 0}, 0);
    x = at::cat({next, x, previous}, 2);
  }
  if (transformation_) x = transformation_->forward(x);
  x = x + position_embeddings_.narrow(0, 0, x.size(1)) + token_type_embeddings_.select(0, 0);
  return dropout_->forward(norm_->forward(x), context);
}

at::Tensor MobileBert::forward_features(const at::Tensor& input_ids, const TextMask& attention_mask,
                                        const nn::ForwardContext& context) const {
  check_text_input(input_ids, attention_mask.mask, config_.max_position_embeddings);
  at::Tensor x = embed(input_ids, context);
  const at::Tensor mask = attention_mask.mask.unsqueeze(1).unsqueeze(1);  // [B, 1, 1, S]
  for (const auto& layer : layers_) x = layer->forward(x, mask, context);
  return x;
}

at::Tensor MobileBert::forward(const at::Tensor& input_ids, const TextMask& attention_mask,
                               const nn::ForwardContext& context) const {
  return forward_features(input_ids, attention_mask, context).select(1, 0);
}

void MobileBert::collect_weights(const std::string& prefix, std::vector<nn::WeightEntry>& entries) const {
  using nn::Init;
  const auto scheme = nn::InitScheme::hugging_face(config_.initializer_range);
  const Init normal = Init::normal(config_.initializer_range);
  Init words = normal;
  words.zero_row = config_.pad_token_id;
  const std::string at = prefix + "embeddings.";
  add_weight(entries, at + "word_embeddings.weight", word_embeddings_, words);
  add_weight(entries, at + "position_embeddings.weight", position_embeddings_, normal);
  add_weight(entries, at + "token_type_embeddings.weight", token_type_embeddings_, normal);
  if (transformation_) transformation_->collect_weights(at + "embedding_transformation.", scheme, entries);
  norm_->collect_weights(at + "LayerNorm.", entries);
  for (std::size_t i = 0; i < layers_.size(); ++i)
    layers_[i]->collect_weights(prefix + "encoder.layer." + std::to_string(i) + ".", scheme, entries);
}

}  // namespace mmkd
