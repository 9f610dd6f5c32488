#include "mmkd/nn/convolution.h"

#include <torch/autograd.h>

#include <algorithm>

#include "mmkd/base/error.h"

namespace mmkd::nn {
namespace {

constexpr double kMomentum = 0.1;
const std::vector<std::int64_t> kAllButChannels{0, 2, 3};

at::Tensor per_channel(const at::Tensor& values) { return values.view({1, -1, 1, 1}); }  // [C] -> [1, C, 1, 1]

/// Count, mean and summed squared deviations of the batch over all ranks, combined in rank order (Chan, Golub and
/// LeVeque, 1979).
struct Statistics {
  at::Tensor count;  // []
  at::Tensor mean;   // [C]
  at::Tensor m2;     // [C]
};

Statistics over_all_ranks(const at::Tensor& x, const BatchRanks& ranks, bool counts) {
  const std::int64_t channels = x.size(1);
  const auto elements = static_cast<double>(counts ? x.numel() / channels : 0);
  const auto [variance, mean] = at::var_mean(x, kAllButChannels, /*correction=*/0, /*keepdim=*/false);
  const at::Tensor local = at::cat({at::full({1}, elements, x.options()), mean, variance * elements});
  const at::Tensor all = ranks.all_gather(local);               // [W, 1 + 2C]
  const at::Tensor weights = all.narrow(1, 0, 1);               // [W, 1]
  const at::Tensor means = all.narrow(1, 1, channels);          // [W, C]
  const at::Tensor m2 = all.narrow(1, 1 + channels, channels);  // [W, C]
  Statistics result;
  result.count = weights.sum();
  result.mean = (means * weights).sum(0) / result.count;
  result.m2 = m2.sum(0) + (weights * (means - result.mean).square()).sum(0);
  return result;
}

/// x normalised by statistics that depend on the rows of all ranks, with the gradient that this brings.
struct SyncBatchNorm : torch::autograd::Function<SyncBatchNorm> {
  /// invstd, mean [C], count []: of all ranks; ranks: borrowed for backward, which gathers as well.
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x, const at::Tensor& weight,
                            const at::Tensor& bias, const at::Tensor& mean, const at::Tensor& invstd,
                            const at::Tensor& count, const BatchRanks* ranks, bool counts) {
    context->save_for_backward({x, weight, mean, invstd, count});
    context->saved_data["ranks"] = reinterpret_cast<std::int64_t>(ranks);
    context->saved_data["counts"] = counts;
    const at::Tensor scale = invstd * weight;
    return x * per_channel(scale) + per_channel(bias - mean * scale);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const auto& [x, weight, mean, invstd, count] = std::tie(saved[0], saved[1], saved[2], saved[3], saved[4]);
    const auto* ranks = reinterpret_cast<const BatchRanks*>(context->saved_data["ranks"].toInt());
    const bool counts = context->saved_data["counts"].toBool();
    const at::Tensor& dy = gradients[0];
    const at::Tensor x_hat = (x - per_channel(mean)) * per_channel(invstd);
    const at::Tensor sum_dy = dy.sum(kAllButChannels);                  // [C]
    const at::Tensor sum_dy_x_hat = (dy * x_hat).sum(kAllButChannels);  // [C]
    const double share = counts ? 1.0 : 0.0;                            // a filler row takes no part in the statistics
    const at::Tensor totals = ranks->all_gather(at::cat({sum_dy, sum_dy_x_hat}) * share).sum(0);
    const at::Tensor mean_dy = totals.narrow(0, 0, x.size(1)) / count;
    const at::Tensor mean_dy_x_hat = totals.narrow(0, x.size(1), x.size(1)) / count;
    const at::Tensor through_statistics = per_channel(mean_dy) + x_hat * per_channel(mean_dy_x_hat);
    const at::Tensor dx = per_channel(weight * invstd) * (dy - through_statistics * share);
    return {dx, sum_dy_x_hat, sum_dy, {}, {}, {}, {}, {}};
  }
};

}  // namespace

BatchNorm2d::BatchNorm2d(std::int64_t channels, double eps, BatchNormMode mode) : eps_(eps), mode_(mode) {
  weight_ = register_parameter("weight", at::empty({channels}, at::kFloat));
  bias_ = register_parameter("bias", at::empty({channels}, at::kFloat));
  running_mean_ = register_buffer("running_mean", at::empty({channels}, at::kFloat));
  running_var_ = register_buffer("running_var", at::empty({channels}, at::kFloat));
}

at::Tensor BatchNorm2d::over_ranks(const at::Tensor& x, const ForwardContext& context) {
  Statistics statistics;
  at::Tensor invstd;
  {
    const at::NoGradGuard no_grad;
    statistics = over_all_ranks(x, *context.ranks, !context.only_filler);
    invstd = (statistics.m2 / statistics.count + eps_).rsqrt();
    running_mean_.lerp_(statistics.mean, kMomentum);
    running_var_.lerp_(statistics.m2 / (statistics.count - 1).clamp_min(1), kMomentum);
  }
  return SyncBatchNorm::apply(x, weight_, bias_, statistics.mean, invstd, statistics.count, context.ranks,
                              !context.only_filler);
}

at::Tensor BatchNorm2d::forward(const at::Tensor& x, const ForwardContext& context) {
  const at::Tensor wide = x.to(at::kFloat);
  const bool batch_statistics = context.training && mode_ == BatchNormMode::sync;
  if (batch_statistics && context.ranks != nullptr) return over_ranks(wide, context);
  return at::batch_norm(wide, weight_, bias_, running_mean_, running_var_, batch_statistics, kMomentum, eps_,
                        /*cudnn_enabled=*/true);
}

void BatchNorm2d::collect_weights(const std::string& prefix, std::vector<WeightEntry>& entries) const {
  add_weight(entries, prefix + "weight", weight_, Init::ones());
  add_weight(entries, prefix + "bias", bias_, Init::zeros());
  add_buffer(entries, prefix + "running_mean", running_mean_, Init::zeros());
  add_buffer(entries, prefix + "running_var", running_var_, Init::ones());
}

namespace {

/// Rows (or columns) to add in all along one side of a map, as TensorFlow's "same" padding has it.
std::int64_t tf_pad(std::int64_t extent, const ConvSpec& spec) {
  const std::int64_t rest = extent % spec.stride;
  return std::max<std::int64_t>(spec.kernel - (rest == 0 ? spec.stride : rest), 0);
}

at::Tensor tf_padded(const at::Tensor& x, const ConvSpec& spec) {
  const std::int64_t height = tf_pad(x.size(2), spec);
  const std::int64_t width = tf_pad(x.size(3), spec);
  if (height == 0 && width == 0) return x;
  const std::int64_t d = spec.dilation;
  return at::constant_pad_nd(x, {width / 2 * d, (width - width / 2) * d, height / 2 * d, (height - height / 2) * d}, 0);
}

}  // namespace

ConvLayer::ConvLayer(const ConvSpec& spec) : spec_(spec) {
  if (spec.inputs < 1 || spec.outputs < 1 || spec.inputs % spec.groups != 0 || spec.outputs % spec.groups != 0) {
    throw UsageError("convolution: {} and {} channels do not divide into {} groups", spec.inputs, spec.outputs,
                     spec.groups);
  }
  weight_ = register_parameter(
      "weight", at::empty({spec.outputs, spec.inputs / spec.groups, spec.kernel, spec.kernel}, at::kFloat));
  if (spec.batch_norm_eps) {
    norm_ = register_module("norm", std::make_shared<BatchNorm2d>(spec.outputs, *spec.batch_norm_eps, spec.batch_norm));
  }
}

at::Tensor ConvLayer::forward(const at::Tensor& x, const ForwardContext& context) const {
  const std::int64_t padding = spec_.tf_padding ? 0 : (spec_.kernel - 1) / 2 * spec_.dilation;
  at::Tensor y = at::conv2d(spec_.tf_padding ? tf_padded(x, spec_) : x, weight_, {}, spec_.stride, padding,
                            spec_.dilation, spec_.groups);
  if (norm_) y = norm_->forward(y, context);
  return spec_.activation ? activate(*spec_.activation, y) : y;
}

void ConvLayer::collect_weights(const std::string& prefix, std::vector<WeightEntry>& entries) const {
  add_weight(entries, prefix + "convolution.weight", weight_,
             Init::kaiming_fan_out(spec_.outputs / spec_.groups * spec_.kernel * spec_.kernel));
  if (norm_) norm_->collect_weights(prefix + "normalization.", entries);
}

}  // namespace mmkd::nn
