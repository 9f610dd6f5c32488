#include "fusions.h"
#include "mmkd/base/error.h"
#include "mmkd/base/rng.h"
#include "mmkd/nn/activation.h"
#include "mmkd/nn/noise.h"
#include "mmkd/nn/one_hot.h"

namespace mmkd::fusion_parts {
namespace {

constexpr std::uint64_t kRoutingLayer = 1;  // a model has one fusion

const nn::AttentionNames kAttentionNames{
    .query = "", .key = "", .value = "", .fused = "in_proj_", .output = "out_proj."};

}  // namespace

at::Tensor wide(const at::Tensor& x) { return x.scalar_type() == at::kDouble ? x : x.to(at::kFloat); }

at::Tensor mixed(const at::Tensor& share, const at::Tensor& v, const at::Tensor& t) {
  return share * v + (1 - share) * t;
}

void check_heads(const FusionSpec& spec) {
  if (spec.heads < 1 || spec.dim % spec.heads != 0)
    throw UsageError("fusion: the width {} is no multiple of the number of heads {}", spec.dim, spec.heads);
}

TokenAttention::TokenAttention(const FusionSpec& spec) {
  check_heads(spec);
  attention_ = register_module("attention", std::make_shared<nn::SelfAttention>(spec.dim, spec.heads, true));
}

at::Tensor TokenAttention::mean(const at::Tensor& tokens) const { return attention_->forward(tokens, {}).mean(1); }

at::Tensor TokenAttention::ask(const at::Tensor& queries, const at::Tensor& tokens) const {
  return attention_->forward_queries(queries.unsqueeze(1), tokens, {}).squeeze(1);
}

void TokenAttention::collect_weights(const std::string& prefix, std::vector<nn::WeightEntry>& entries) const {
  attention_->collect_weights(prefix, kAttentionNames, nn::InitScheme::torch(), entries);
}

TwoLayers::TwoLayers(const Sizes& sizes, Dropouts dropouts, double probability, bool relu)
    : dropouts_(dropouts), relu_(relu) {
  first_ = register_module("first", std::make_shared<nn::Linear>(sizes.inputs, sizes.hidden));
  second_ = register_module("second", std::make_shared<nn::Linear>(sizes.hidden, sizes.outputs));
  if (dropouts != Dropouts::none) between_ = register_module("between", std::make_shared<nn::Dropout>(probability));
  if (dropouts == Dropouts::between_and_last)
    last_ = register_module("last", std::make_shared<nn::Dropout>(probability));
}

at::Tensor TwoLayers::forward(const at::Tensor& x, const nn::ForwardContext& context) const {
  at::Tensor y = nn::activate(relu_ ? nn::Activation::relu : nn::Activation::gelu_erf, first_->forward(x));
  if (between_) y = between_->forward(y, context);
  y = second_->forward(y);
  return last_ ? last_->forward(y, context) : y;
}

void TwoLayers::collect_weights(const std::string& prefix, std::vector<nn::WeightEntry>& entries) const {
  first_->collect_weights(prefix + "0.", nn::InitScheme::torch(), entries);
  second_->collect_weights(prefix + (dropouts_ == Dropouts::none ? "2." : "3."), nn::InitScheme::torch(), entries);
}

Choice choose(const at::Tensor& logits, const FusionSpec& spec, const nn::ForwardContext& context) {
  const at::Tensor scores = wide(logits);  // [B, R]
  const std::int64_t routes = scores.size(1);
  if (!context.training) {
    const at::Tensor route = scores.argmax(1);
    return {route, nn::one_hot(route, routes).to(scores.scalar_type())};
  }
  const at::Tensor noise = nn::keyed_gumbel(routes, RngPurpose::routing, kRoutingLayer, context, scores.device());
  const at::Tensor soft = at::softmax((scores + noise) / spec.temperature, 1);
  const at::Tensor route = soft.argmax(1);
  at::Tensor weights = nn::one_hot(route, routes).to(scores.scalar_type());
  // In value exactly the one-hot: the difference is 0 for every element.
  if (spec.routing == Routing::straight_through) weights = weights + (soft - soft.detach());
  return {route, weights};
}

at::Tensor mix(const at::Tensor& weights, const std::vector<at::Tensor>& branches) {
  at::Tensor sum;
  for (std::size_t r = 0; r < branches.size(); ++r) {
    const at::Tensor part = weights.narrow(1, static_cast<std::int64_t>(r), 1) * branches[r];
    sum = sum.defined() ? sum + part : part;
  }
  return sum;
}

}  // namespace mmkd::fusion_parts
