#pragma once
#include <cstdint>
#include <limits>
#include <optional>

namespace mmkd::nn {

/// How a tensor begins when it is trained from scratch.
struct Init {
  enum class Kind { constant, normal, uniform };
  Kind kind = Kind::constant;
  double scale = 0;  ///< the constant; the standard deviation around 0; the bound of [-scale, scale]
  double limit = std::numeric_limits<double>::infinity();  ///< normal: values beyond ±limit are drawn again
  std::int64_t zero_row = -1;                              ///< this row begins with zeros; -1: none

  static Init zeros() { return {}; }
  static Init ones() { return {.kind = Kind::constant, .scale = 1}; }
  static Init normal(double std) { return {.kind = Kind::normal, .scale = std}; }
  /// torch.nn.init.trunc_normal_ with its default bounds, which are absolute: ±2.
  static Init truncated_normal(double std) { return {.kind = Kind::normal, .scale = std, .limit = 2}; }
  static Init uniform(double bound) { return {.kind = Kind::uniform, .scale = bound}; }
  /// kaiming_normal_(mode = "fan_out", nonlinearity = "relu") of a convolution's weight, as torchvision's conv nets
  /// begin.
  static Init kaiming_fan_out(std::int64_t fan_out);
  /// torch.nn.Linear's, for weight and bias alike: kaiming_uniform_(a = sqrt(5)) is uniform in ±1/sqrt(fan_in).
  static Init fan_in(std::int64_t inputs);
  /// torch.nn.init.xavier_uniform_ of a weight [outputs, inputs].
  static Init xavier_uniform(std::int64_t inputs, std::int64_t outputs);
};

/// Whose rules the linear layers of a block follow.
struct InitScheme {
  /// Set: Hugging Face's, every weight normal with this deviation, every bias 0. Unset: those of PyTorch's own modules.
  std::optional<double> normal_std;

  static InitScheme hugging_face(double initializer_range) { return {initializer_range}; }
  static InitScheme torch() { return {std::nullopt}; }
};

}  // namespace mmkd::nn
