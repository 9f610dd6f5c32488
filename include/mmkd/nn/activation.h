#pragma once
#include <ATen/ATen.h>

#include <string>

namespace mmkd::nn {

enum class Activation { gelu_erf, gelu_tanh, relu, relu6, silu };

/// From the names that Hugging Face configurations use: `gelu` is the erf form, `gelu_new` and `gelu_pytorch_tanh` are
/// the tanh form. Throws Error for others; `where` starts the message.
Activation activation_from_name(const std::string& name, const std::string& where);

at::Tensor activate(Activation activation, const at::Tensor& x);

}  // namespace mmkd::nn
