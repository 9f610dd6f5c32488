#include "mobilenet_v2.h"

#include <fmt/ranges.h>

#include <array>

#include "mmkd/base/error.h"

namespace mmkd {
namespace {

constexpr const char* kMobileNetV2 = "vision tower (mobilenet_v2)";
constexpr std::array<std::int64_t, 17> kChannels{16, 24, 24, 32, 32,  32,  64,  64, 64,
                                                 64, 96, 96, 96, 160, 160, 160, 320};
constexpr std::array<std::int64_t, 16> kStrides{2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1};

std::int64_t scaled(const MobileNetV2Config& config, std::int64_t channels) {
  return make_divisible(round_half_even(static_cast<double>(channels) * config.depth_multiplier),
                        config.depth_divisible_by, config.min_depth);
}

MobileSpec mobilenet_v2_spec(const VisionConfig& config) {
  const auto& net = config.mobilenet_v2;
  return {.expand_ratio = net.expand_ratio,
          .batch_norm_eps = net.batch_norm_eps,
          .divisor = net.depth_divisible_by,
          .smallest = net.min_depth,
          .tf_padding = net.tf_padding,
          .activation = nn::activation_from_name(net.hidden_act, kMobileNetV2),
          .batch_norm = config.batch_norm};
}

void check(const MobileNetV2Config& config) {
  if (config.depth_multiplier <= 0 || config.expand_ratio <= 0 || config.depth_divisible_by < 1 || config.min_depth < 1)
    throw UsageError("{}: depth_multiplier, expand_ratio, depth_divisible_by and min_depth must be positive",
                     kMobileNetV2);
  if (config.output_stride != 8 && config.output_stride != 16 && config.output_stride != 32)
    throw UsageError("{}: output_stride: expected 8, 16 or 32, found {}", kMobileNetV2, config.output_stride);
}

}  // namespace

std::int64_t feature_width(const MobileNetV2Config& config) {
  return config.finegrained_output && config.depth_multiplier < 1.0 ? 1280 : scaled(config, 1280);
}

MobileNetV2::MobileNetV2(const VisionConfig& config) {
  const auto& net = config.mobilenet_v2;
  check(net);
  const MobileSpec spec = mobilenet_v2_spec(config);
  std::vector<std::int64_t> channels;
  for (const auto count : kChannels) channels.push_back(scaled(net, count));
  const auto add = [&](const char* name, const nn::ConvSpec& layer) {
    return register_module(name, std::make_shared<nn::ConvLayer>(layer));
  };
  const std::int64_t stem = scaled(net, 32);
  stem_first_ = add("stem_first", spec.conv(3, stem, 3, 2));
  if (!net.first_layer_is_expansion) stem_expand_ = add("stem_expand", spec.conv(stem, stem, 1));
  stem_depthwise_ = add("stem_depthwise", spec.depthwise(stem, 1, 1));
  stem_reduce_ = add("stem_reduce", spec.linear(stem, channels.front()));
  add_blocks(net, spec, channels);
  width_ = feature_width(net);
  last_ = add("last", spec.conv(channels.back(), width_, 1));
}

void MobileNetV2::add_blocks(const MobileNetV2Config& config, const MobileSpec& spec,
                             const std::vector<std::int64_t>& channels) {
  std::int64_t shrunk = 2;  // what the stem does
  std::int64_t dilation = 1;
  for (std::size_t i = 0; i < kStrides.size(); ++i) {
    std::int64_t stride = kStrides[i];
    std::int64_t block_dilation = 1;
    if (shrunk == config.output_stride) {  // no smaller: dilate instead, from the next block on
      block_dilation = dilation;
      dilation *= stride;
      stride = 1;
    } else {
      shrunk *= stride;
    }
    blocks_.push_back(register_module(
        "block" + std::to_string(i),
        std::make_shared<InvertedResidual>(spec, channels[i], channels[i + 1], stride, block_dilation)));
  }
}

at::Tensor MobileNetV2::forward_features(const at::Tensor& pixels, const nn::ForwardContext& context) const {
  if (pixels.dim() != 4 || pixels.size(1) != 3)
    throw Error("{}: pixels [B, 3, H, W] are expected, found [{}]", kMobileNetV2, fmt::join(pixels.sizes(), ", "));
  at::Tensor x = stem_first_->forward(pixels, context);
  if (stem_expand_) x = stem_expand_->forward(x, context);
  x = stem_reduce_->forward(stem_depthwise_->forward(x, context), context);
  for (const auto& block : blocks_) x = block->forward(x, context);
  return last_->forward(x, context);
}

at::Tensor MobileNetV2::forward(const at::Tensor& pixels, const nn::ForwardContext& context) const {
  return pooled(forward_features(pixels, context));
}

void MobileNetV2::collect_weights(const std::string& prefix, std::vector<nn::WeightEntry>& entries) const {
  const std::string stem = prefix + "conv_stem.";
  stem_first_->collect_weights(stem + "first_conv.", entries);
  if (stem_expand_) stem_expand_->collect_weights(stem + "expand_1x1.", entries);
  stem_depthwise_->collect_weights(stem + "conv_3x3.", entries);
  stem_reduce_->collect_weights(stem + "reduce_1x1.", entries);
  for (std::size_t i = 0; i < blocks_.size(); ++i) {
    blocks_[i]->collect_weights(prefix + "layer." + std::to_string(i) + ".", entries);
  }
  last_->collect_weights(prefix + "conv_1x1.", entries);
}

}  // namespace mmkd
