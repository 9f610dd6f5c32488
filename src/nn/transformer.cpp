#include "mmkd/nn/transformer.h"

#include "mmkd/base/error.h"
#include "mmkd/nn/cpu_kernels.h"
#include "mmkd/nn/linear.h"
#include "mmkd/nn/recompute.h"
#include "mmkd/nn/residual_norm.h"

namespace mmkd::nn {

TransformerLayer::TransformerLayer(const TransformerSpec& spec) : norm_(spec.norm), activation_(spec.activation) {
  const auto norm = [&] { return std::make_shared<LayerNorm>(spec.width, spec.layer_norm_eps); };
  attention_ = register_module("attention", std::make_shared<SelfAttention>(spec.width, spec.heads, spec.qkv_bias));
  attention_norm_ = register_module("attention_norm", norm());
  feed_forward_in_ = register_module("feed_forward_in", std::make_shared<Linear>(spec.width, spec.intermediate));
  feed_forward_out_ = register_module("feed_forward_out", std::make_shared<Linear>(spec.intermediate, spec.width));
  output_norm_ = register_module("output_norm", norm());
  attention_output_dropout_ =
      register_module("attention_output_dropout", std::make_shared<Dropout>(spec.attention_output_dropout));
  activation_dropout_ = register_module("activation_dropout", std::make_shared<Dropout>(spec.activation_dropout));
  output_dropout_ = register_module("output_dropout", std::make_shared<Dropout>(spec.output_dropout));
}

at::Tensor TransformerLayer::attention_input(const at::Tensor& x) const {
  return norm_ == NormPlacement::before ? attention_norm_->forward(x) : x;
}

namespace {

/// Packed tokens by `layout`, padded ones without.
at::Tensor drop(const Dropout& dropout, const at::Tensor& x, const TokenLayout* layout, const ForwardContext& context) {
  return layout != nullptr ? dropout.forward(x, *layout, context) : dropout.forward(x, context);
}

}  // namespace

at::Tensor TransformerLayer::feed_forward(const at::Tensor& x, const TokenLayout* layout,
                                          const ForwardContext& context) const {
  const auto &in = *feed_forward_in_, &out = *feed_forward_out_;
  at::Tensor result;
  if (activation_ == Activation::gelu_erf && at::GradMode::is_enabled() && !activation_dropout_->acts(context)) {
    result = gelu_linear(in.forward(x), out.weight, out.bias);
  } else {
    const at::Tensor hidden =
        activation_ == Activation::gelu_erf ? linear_gelu(x, in.weight, in.bias) : activate(activation_, in.forward(x));
    result = out.forward(drop(*activation_dropout_, hidden, layout, context));
  }
  return drop(*output_dropout_, result, layout, context);
}

/// What follows the attention, for the tokens of `x`, which entered the layer, and their `attended`.
at::Tensor TransformerLayer::finish(const at::Tensor& x, const at::Tensor& attended,
                                    const ForwardContext& context) const {
  at::Tensor sum = x + attention_output_dropout_->forward(attended, context);
  if (norm_ == NormPlacement::before) return sum + feed_forward(output_norm_->forward(sum), nullptr, context);
  sum = attention_norm_->forward(sum);
  return output_norm_->forward(sum + feed_forward(sum, nullptr, context));
}

at::Tensor TransformerLayer::forward(const at::Tensor& x, const at::Tensor& mask, const ForwardContext& context) const {
  return finish(x, attention_->forward(attention_input(x), mask), context);
}

at::Tensor TransformerLayer::forward_first(const at::Tensor& x, const at::Tensor& mask,
                                           const ForwardContext& context) const {
  return finish(x.narrow(1, 0, 1), attention_->forward_first(attention_input(x), mask), context);
}

/// The same with sums and norms in one pass.
TransformerLayer::Stream TransformerLayer::finish(const at::Tensor& x, const at::Tensor& attended,
                                                  const TokenLayout& layout, const ForwardContext& context) const {
  const at::Tensor dropped = attention_output_dropout_->forward(attended, layout, context);
  const auto type = compute_type(x);
  if (norm_ == NormPlacement::before) {
    const auto middle = residual_norm(x, dropped, *output_norm_, Keep::sum, type);
    return {middle.sum, feed_forward(middle.normed, &layout, context), {}};
  }
  const auto middle = residual_norm(x, dropped, *attention_norm_, Keep::normed, type);
  const auto end = residual_norm(middle.normed_float, feed_forward(middle.normed, &layout, context), *output_norm_,
                                 Keep::normed, type);
  return {end.normed_float, {}, end.normed.is_same(end.normed_float) ? at::Tensor() : end.normed};
}

TransformerLayer::Stream TransformerLayer::forward(const Stream& in, const TokenLayout& layout,
                                                   const ForwardContext& context) const {
  if (norm_ == NormPlacement::before) {
    const auto begin = residual_norm(in.x, in.pending, *attention_norm_, Keep::sum, compute_type(in.x));
    return finish(begin.sum, attention_->forward(begin.normed, layout), layout, context);
  }
  return finish(in.x, attention_->forward(in.narrow.defined() ? in.narrow : in.x, layout), layout, context);
}

at::Tensor TransformerLayer::forward_first(const Stream& in, const TokenLayout& layout,
                                           const ForwardContext& context) const {
  at::Tensor x = in.x, input = in.narrow.defined() ? in.narrow : in.x;
  if (norm_ == NormPlacement::before) {
    const auto begin = residual_norm(in.x, in.pending, *attention_norm_, Keep::sum, compute_type(in.x));
    x = begin.sum;
    input = begin.normed;
  }
  const auto out = finish(layout.first(x), attention_->forward_first(input, layout),
                          TokenLayout::uniform(layout.samples(), 1, x.device()), context);
  return out.pending.defined() ? out.x + out.pending : out.x;
}

void TransformerLayer::collect_weights(const std::string& prefix, const TransformerNames& names,
                                       const InitScheme& scheme, std::vector<WeightEntry>& entries) const {
  attention_->collect_weights(prefix, names.attention, scheme, entries);
  attention_norm_->collect_weights(prefix + names.attention_norm, entries);
  feed_forward_in_->collect_weights(prefix + names.feed_forward_in, scheme, entries);
  feed_forward_out_->collect_weights(prefix + names.feed_forward_out, scheme, entries);
  output_norm_->collect_weights(prefix + names.output_norm, entries);
}

Transformer::Transformer(const TransformerSpec& spec, const std::string& where) {
  if (spec.width < 1 || spec.heads < 1 || spec.intermediate < 1 || spec.layers < 0) {
    throw UsageError("{}: width {}, heads {}, feed-forward width {} and layers {}: sizes must be positive", where,
                     spec.width, spec.heads, spec.intermediate, spec.layers);
  }
  if (spec.width % spec.heads != 0) {
    throw UsageError("{}: the width {} is no multiple of the number of heads {}", where, spec.width, spec.heads);
  }
  for (std::int64_t i = 0; i < spec.layers; ++i) {
    layers_.push_back(register_module(std::to_string(i), std::make_shared<TransformerLayer>(spec)));
  }
}

namespace {

using Stream = TransformerLayer::Stream;

/// layer(x), with what backward needs of it kept or made again.
template <class Layer>
at::Tensor pass(const ForwardContext& context, const at::Tensor& x, const Layer& layer) {
  if (!context.recompute) return layer(x);
  return recomputed([layer](const auto& inputs) { return std::vector{layer(inputs[0])}; }, {x})[0];
}

template <class Layer>
Stream pass(const ForwardContext& context, const Stream& in, const Layer& layer) {
  if (!context.recompute) return layer(in);
  const auto out = recomputed(
      [layer](const auto& inputs) {
        const Stream stream = layer(Stream{inputs[0], inputs[1], inputs[2]});
        return std::vector{stream.x, stream.pending, stream.narrow};
      },
      {in.x, in.pending, in.narrow});
  return {out[0], out[1], out[2]};
}

}  // namespace

// Layers are passed with copies of all that they need: backward may call them when the caller has gone.

// Without a mask CUDA has attention kernels that are faster than those for samples of different lengths.

at::Tensor Transformer::forward(at::Tensor x, const at::Tensor& mask, const ForwardContext& context) const {
  if (!mask.defined() && x.is_cpu() && serves_packed(x)) {
    const auto layout = TokenLayout::uniform(x.size(0), x.size(1));
    return layout.unpack(forward(layout.pack(x), layout, context));
  }
  for (const auto& layer : layers_)
    x = pass(context, x, [=](const at::Tensor& in) { return layer->forward(in, mask, context); });
  return x;
}

at::Tensor Transformer::forward_first(at::Tensor x, const at::Tensor& mask, const ForwardContext& context) const {
  if (!mask.defined() && x.is_cpu() && serves_packed(x)) {
    const auto layout = TokenLayout::uniform(x.size(0), x.size(1));
    return forward_first(layout.pack(x), layout, context);
  }
  for (const auto& layer : layers_) {
    const bool is_last = layer == layers_.back();
    x = pass(context, x, [=](const at::Tensor& in) {
      return is_last ? layer->forward_first(in, mask, context) : layer->forward(in, mask, context);
    });
  }
  return x.select(1, 0);
}

Stream Transformer::run(const at::Tensor& x, std::size_t layers, const TokenLayout& layout,
                        const ForwardContext& context) const {
  Stream stream{x.to(at::kFloat), {}, {}};
  for (std::size_t i = 0; i < layers; ++i) {
    stream = pass(context, stream,
                  [=, layer = layers_[i]](const Stream& in) { return layer->forward(in, layout, context); });
  }
  return stream;
}

at::Tensor Transformer::forward(const at::Tensor& x, const TokenLayout& layout, const ForwardContext& context) const {
  const Stream stream = run(x, layers_.size(), layout, context);
  return stream.pending.defined() ? stream.x + stream.pending : stream.x;
}

at::Tensor Transformer::forward_first(const at::Tensor& x, const TokenLayout& layout,
                                      const ForwardContext& context) const {
  const Stream stream = run(x, layers_.size() - 1, layout, context);
  return pass(context, stream,
              [=, layer = layers_.back()](const Stream& in) {
                return Stream{layer->forward_first(in, layout, context), {}, {}};
              })
      .x;
}

void Transformer::collect_weights(const std::string& prefix, const TransformerNames& names, const InitScheme& scheme,
                                  std::vector<WeightEntry>& entries) const {
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    layers_[i]->collect_weights(prefix + std::to_string(i) + ".", names, scheme, entries);
  }
}

}  // namespace mmkd::nn
