#include "mmkd/nn/attention.h"

#include "mmkd/nn/linear.h"
#include "mmkd/nn/packed_attention.h"

namespace mmkd::nn {

// B batch, N tokens, D width, H heads, d = D / H

SelfAttention::SelfAttention(std::int64_t width, std::int64_t heads, bool qkv_bias) : width_(width), heads_(heads) {
  qkv_ = register_module("qkv", std::make_shared<Linear>(width, 3 * width, qkv_bias));
  output_ = register_module("output", std::make_shared<Linear>(width, width));
}

at::Tensor SelfAttention::attend(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                                 const at::Tensor& mask) const {
  const auto split_heads = [&](const at::Tensor& x) {
    return x.unflatten(-1, {heads_, width_ / heads_}).transpose(1, 2);  // [B, H, N, d]
  };
  const auto attn_mask = mask.defined() ? std::optional<at::Tensor>(mask) : std::nullopt;
  const at::Tensor heads =
      at::scaled_dot_product_attention(split_heads(query), split_heads(key), split_heads(value), attn_mask);
  return output_->forward(heads.transpose(1, 2).flatten(2));  // [B, N, D]
}

at::Tensor SelfAttention::forward(const at::Tensor& x, const at::Tensor& mask) const {
  const auto parts = qkv_->forward(x).chunk(3, -1);  // 3 x [B, N, D]
  return attend(parts[0], parts[1], parts[2], mask);
}

/// Parts [first, first + count) of query, key and value: […, count · D].
at::Tensor SelfAttention::project(const at::Tensor& x, std::int64_t first, std::int64_t count) const {
  const auto rows = [&](const at::Tensor& of) {
    return of.defined() ? of.narrow(0, first * width_, count * width_) : at::Tensor();
  };
  return nn::linear(x, rows(qkv_->weight), rows(qkv_->bias));
}

bool SelfAttention::serves_packed(const at::Tensor& x) const { return packed_attention_runs(x, width_, heads_); }

at::Tensor SelfAttention::forward(const at::Tensor& x, const TokenLayout& layout) const {
  return output_->forward(packed_self_attention(qkv_->forward(x), layout, heads_));
}

at::Tensor SelfAttention::forward_first(const at::Tensor& x, const TokenLayout& layout) const {
  const at::Tensor query = project(layout.first(x), 0, 1);  // [B, D]
  return output_->forward(
      packed_attention(query, TokenLayout::uniform(layout.samples(), 1, x.device()), project(x, 1, 2), layout, heads_));
}

at::Tensor SelfAttention::forward_first(const at::Tensor& x, const at::Tensor& mask) const {
  return forward_queries(x.narrow(1, 0, 1), x, mask);
}

at::Tensor SelfAttention::forward_queries(const at::Tensor& queries, const at::Tensor& x,
                                          const at::Tensor& mask) const {
  const at::Tensor query = project(queries, 0, 1);       // [B, M, D]
  const auto key_value = project(x, 1, 2).chunk(2, -1);  // 2 x [B, N, D]
  return attend(query, key_value[0], key_value[1], mask);
}

void SelfAttention::collect_weights(const std::string& prefix, const AttentionNames& names, const InitScheme& scheme,
                                    std::vector<WeightEntry>& entries) const {
  // PyTorch's MultiheadAttention treats the three as one matrix, and begins with all biases 0.
  const Init qkv_init = scheme.normal_std ? Init::normal(*scheme.normal_std) : Init::xavier_uniform(width_, 3 * width_);
  const Init output_init = scheme.normal_std ? Init::normal(*scheme.normal_std) : Init::fan_in(width_);
  const auto add = [&](const std::string& name, std::int64_t first_row, std::int64_t rows) {
    add_rows(entries, prefix + name + "weight", qkv_->weight, first_row, rows, qkv_init);
    if (qkv_->bias.defined()) add_rows(entries, prefix + name + "bias", qkv_->bias, first_row, rows, Init::zeros());
  };
  if (!names.fused.empty()) {
    add(names.fused, 0, 3 * width_);
  } else {
    add(names.query, 0, width_);
    add(names.key, width_, width_);
    add(names.value, 2 * width_, width_);
  }
  add_weight(entries, prefix + names.output + "weight", output_->weight, output_init);
  add_weight(entries, prefix + names.output + "bias", output_->bias, Init::zeros());
}

}  // namespace mmkd::nn
