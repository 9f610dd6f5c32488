#pragma once
#include <ATen/ATen.h>

#include <functional>
#include <vector>

namespace mmkd::nn {

using TensorFunction = std::function<std::vector<at::Tensor>(const std::vector<at::Tensor>&)>;

/// f(inputs) of which nothing but the inputs is kept: backward computes it again, under the same autocast, and takes
/// the gradients to the inputs and to all parameters that f uses (Chen et al. 2016, "Training Deep Nets with Sublinear
/// Memory Cost"; torch.utils.checkpoint). f must give the same again: random numbers are keyed (context.h), but
/// statistics of batch norms would be counted twice. Inputs and outputs may be undefined; outputs are tensors of
/// their own, neither inputs nor one another.
/// Where no input requires a gradient, f(inputs): what f's parameters need is kept as ever.
std::vector<at::Tensor> recomputed(const TensorFunction& f, const std::vector<at::Tensor>& inputs);

}  // namespace mmkd::nn
