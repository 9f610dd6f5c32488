#include "mobilevit.h"

#include <fmt/ranges.h>

#include <bit>

#include "mmkd/base/error.h"
#include "mmkd/base/rng.h"

namespace mmkd {
namespace {

// B batch, C channels, H/W height and width of a map, p patch size, P = p² places of a patch, N patches

constexpr const char* kMobileVit = "vision tower (mobilevit)";
constexpr double kBatchNormEps = 1e-5;  // fixed in the reference

void check(const MobileVitConfig& config) {
  if (config.hidden_sizes.size() != 3 || config.neck_hidden_sizes.size() != 7) {
    throw UsageError("{}: hidden_sizes needs 3 numbers and neck_hidden_sizes 7, found {} and {}", kMobileVit,
                     config.hidden_sizes.size(), config.neck_hidden_sizes.size());
  }
  if (config.patch_size < 1 || config.conv_kernel_size < 1 || config.conv_kernel_size % 2 == 0)
    throw UsageError("{}: patch_size must be positive and conv_kernel_size odd, found {} and {}", kMobileVit,
                     config.patch_size, config.conv_kernel_size);
  if (config.output_stride != 8 && config.output_stride != 16 && config.output_stride != 32)
    throw UsageError("{}: output_stride: expected 8, 16 or 32, found {}", kMobileVit, config.output_stride);
}

MobileSpec mobilevit_spec(const VisionConfig& config) {
  return {.expand_ratio = config.mobilevit.expand_ratio,
          .batch_norm_eps = kBatchNormEps,
          .divisor = 8,
          .smallest = 8,
          .tf_padding = false,
          .activation = nn::activation_from_name(config.mobilevit.hidden_act, kMobileVit),
          .batch_norm = config.batch_norm};
}

nn::TransformerSpec transformer_spec(const MobileVitConfig& config, std::int64_t hidden, std::int64_t layers) {
  return {.width = hidden,
          .layers = layers,
          .heads = config.num_attention_heads,
          .intermediate = static_cast<std::int64_t>(static_cast<double>(hidden) * config.mlp_ratio),
          .activation = nn::activation_from_name(config.hidden_act, kMobileVit),
          .norm = nn::NormPlacement::before,
          .layer_norm_eps = config.layer_norm_eps,
          .qkv_bias = config.qkv_bias,
          .attention_output_dropout = config.hidden_dropout,
          .activation_dropout = 0,
          .output_dropout = config.hidden_dropout};
}

const nn::TransformerNames kMobileVitNames{
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

/// The transformer sees P sequences of each sample; each has dropout masks of its own.
nn::ForwardContext per_place(const nn::ForwardContext& context, std::int64_t places) {
  if (!context.training || !context.sample_keys.defined()) return context;
  const at::Tensor samples = context.sample_keys.contiguous();
  at::Tensor keys = at::empty({samples.size(0) * places}, at::kLong);
  const auto* in = samples.const_data_ptr<std::int64_t>();
  auto* out = keys.mutable_data_ptr<std::int64_t>();
  for (std::int64_t i = 0; i < samples.size(0); ++i) {
    for (std::int64_t place = 0; place < places; ++place) {
      const auto key = combine_keys({std::bit_cast<std::uint64_t>(in[i]), static_cast<std::uint64_t>(place)});
      out[i * places + place] = std::bit_cast<std::int64_t>(key);
    }
  }
  nn::ForwardContext of_places = context;
  of_places.sample_keys = keys;
  of_places.device_keys = at::Tensor();  // of the samples
  return of_places;
}

std::int64_t multiple_of(std::int64_t extent, std::int64_t patch) { return (extent + patch - 1) / patch * patch; }

}  // namespace

MobileVitBlock::MobileVitBlock(const MobileVitConfig& config, const MobileSpec& spec, const Sizes& sizes)
    : patch_(config.patch_size) {
  const auto add = [&](const char* name, const nn::ConvSpec& layer) {
    return register_module(name, std::make_shared<nn::ConvLayer>(layer));
  };
  downsampling_ = register_module("downsampling", std::make_shared<InvertedResidual>(spec, sizes.inputs, sizes.outputs,
                                                                                     sizes.stride, sizes.dilation));
  const std::int64_t channels = sizes.outputs;
  local_ = add("local", spec.conv(channels, channels, config.conv_kernel_size));
  auto plain = spec.linear(channels, sizes.hidden);
  plain.batch_norm_eps.reset();
  expand_ = add("expand", plain);
  transformer_ = register_module("transformer", std::make_shared<nn::Transformer>(
                                                    transformer_spec(config, sizes.hidden, sizes.layers), kMobileVit));
  norm_ = register_module("norm", std::make_shared<nn::LayerNorm>(sizes.hidden, config.layer_norm_eps));
  projection_ = add("projection", spec.conv(sizes.hidden, channels, 1));
  fusion_ = add("fusion", spec.conv(2 * channels, channels, config.conv_kernel_size));
}

/// The transformer over a map, [B, C, H, W] -> the same.
at::Tensor MobileVitBlock::attended(const at::Tensor& map, const nn::ForwardContext& context) const {
  const std::int64_t batch = map.size(0), channels = map.size(1), p = patch_;
  const std::int64_t height = multiple_of(map.size(2), p), width = multiple_of(map.size(3), p);
  const bool resize = height != map.size(2) || width != map.size(3);
  const at::Tensor whole = resize ? at::upsample_bilinear2d(map, {height, width}, /*align_corners=*/false) : map;
  const std::int64_t rows = height / p, columns = width / p;
  const at::Tensor sequences = whole.reshape({batch, channels, rows, p, columns, p})
                                   .permute({0, 3, 5, 2, 4, 1})                          // [B, p, p, rows, columns, C]
                                   .reshape({batch * p * p, rows * columns, channels});  // [B·P, N, C]
  const at::Tensor seen = norm_->forward(transformer_->forward(sequences, {}, per_place(context, p * p)));
  const at::Tensor back = seen.reshape({batch, p, p, rows, columns, channels})
                              .permute({0, 5, 3, 1, 4, 2})  // [B, C, rows, p, columns, p]
                              .reshape({batch, channels, height, width});
  return resize ? at::upsample_bilinear2d(back, {map.size(2), map.size(3)}, /*align_corners=*/false) : back;
}

at::Tensor MobileVitBlock::forward(const at::Tensor& x, const nn::ForwardContext& context) const {
  const at::Tensor input = downsampling_->forward(x, context);
  const at::Tensor local = expand_->forward(local_->forward(input, context), context);
  const at::Tensor global = projection_->forward(attended(local, context), context);
  return fusion_->forward(at::cat({input, global}, 1), context);
}

void MobileVitBlock::collect_weights(const std::string& prefix, double initializer_range,
                                     std::vector<nn::WeightEntry>& entries) const {
  downsampling_->collect_weights(prefix + "downsampling_layer.", entries);
  local_->collect_weights(prefix + "conv_kxk.", entries);
  expand_->collect_weights(prefix + "conv_1x1.", entries);
  transformer_->collect_weights(prefix + "transformer.layer.", kMobileVitNames,
                                nn::InitScheme::hugging_face(initializer_range), entries);
  norm_->collect_weights(prefix + "layernorm.", entries);
  projection_->collect_weights(prefix + "conv_projection.", entries);
  fusion_->collect_weights(prefix + "fusion.", entries);
}

MobileVit::MobileVit(const VisionConfig& config) : initializer_range_(config.initializer_range) {
  const auto& net = config.mobilevit;
  check(net);
  const MobileSpec spec = mobilevit_spec(config);
  const auto& neck = net.neck_hidden_sizes;
  stem_ = register_module("stem", std::make_shared<nn::ConvLayer>(spec.conv(3, neck[0], 3, 2)));
  for (std::size_t layer = 0; layer < 2; ++layer) {
    const std::int64_t stages = layer == 0 ? 1 : 3;
    for (std::int64_t i = 0; i < stages; ++i) {
      const std::int64_t inputs = i == 0 ? neck[layer] : neck[layer + 1];
      const std::int64_t stride = i == 0 && layer == 1 ? 2 : 1;
      mobile_layers_[layer].push_back(
          register_module(fmt::format("mobile{}_{}", layer, i),
                          std::make_shared<InvertedResidual>(spec, inputs, neck[layer + 1], stride)));
    }
  }
  constexpr std::array<std::int64_t, 3> kLayers{2, 4, 3};
  const std::array<bool, 3> dilate{false, net.output_stride == 8, net.output_stride <= 16};
  std::int64_t dilation = 1;
  for (std::size_t i = 0; i < 3; ++i) {
    if (dilate[i]) dilation *= 2;
    const MobileVitBlock::Sizes sizes{.inputs = neck[i + 2],
                                      .outputs = neck[i + 3],
                                      .hidden = net.hidden_sizes[i],
                                      .layers = kLayers[i],
                                      .stride = dilation == 1 ? 2 : 1,
                                      .dilation = dilation > 1 ? dilation / 2 : 1};
    blocks_[i] = register_module(fmt::format("block{}", i), std::make_shared<MobileVitBlock>(net, spec, sizes));
  }
  width_ = neck[6];
  last_ = register_module("last", std::make_shared<nn::ConvLayer>(spec.conv(neck[5], width_, 1)));
}

at::Tensor MobileVit::forward_features(const at::Tensor& pixels, const nn::ForwardContext& context) const {
  if (pixels.dim() != 4 || pixels.size(1) != 3)
    throw Error("{}: pixels [B, 3, H, W] are expected, found [{}]", kMobileVit, fmt::join(pixels.sizes(), ", "));
  at::Tensor x = stem_->forward(pixels, context);
  for (const auto& layer : mobile_layers_) {
    for (const auto& residual : layer) x = residual->forward(x, context);
  }
  for (const auto& block : blocks_) x = block->forward(x, context);
  return last_->forward(x, context);
}

at::Tensor MobileVit::forward(const at::Tensor& pixels, const nn::ForwardContext& context) const {
  return pooled(forward_features(pixels, context));
}

void MobileVit::collect_weights(const std::string& prefix, std::vector<nn::WeightEntry>& entries) const {
  stem_->collect_weights(prefix + "conv_stem.", entries);
  for (std::size_t layer = 0; layer < mobile_layers_.size(); ++layer) {
    for (std::size_t i = 0; i < mobile_layers_[layer].size(); ++i)
      mobile_layers_[layer][i]->collect_weights(fmt::format("{}encoder.layer.{}.layer.{}.", prefix, layer, i), entries);
  }
  for (std::size_t i = 0; i < blocks_.size(); ++i)
    blocks_[i]->collect_weights(fmt::format("{}encoder.layer.{}.", prefix, i + 2), initializer_range_, entries);
  last_->collect_weights(prefix + "conv_1x1_exp.", entries);
}

}  // namespace mmkd
