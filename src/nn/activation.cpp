#include "mmkd/nn/activation.h"

#include "mmkd/base/error.h"
#include "mmkd/nn/gelu.h"

namespace mmkd::nn {

Activation activation_from_name(const std::string& name, const std::string& where) {
  if (name == "gelu") return Activation::gelu_erf;
  if (name == "gelu_new" || name == "gelu_pytorch_tanh") return Activation::gelu_tanh;
  if (name == "relu") return Activation::relu;
  if (name == "relu6") return Activation::relu6;
  if (name == "silu" || name == "swish") return Activation::silu;
  throw UsageError(
      "{}: activation '{}' is not supported; expected gelu, gelu_new, gelu_pytorch_tanh, relu, relu6 or silu", where,
      name);
}

at::Tensor activate(Activation activation, const at::Tensor& x) {
  switch (activation) {
    case Activation::gelu_erf:
      return fast_gelu_runs(x) ? fast_gelu(x) : at::gelu(x, "none");
    case Activation::gelu_tanh:
      return at::gelu(x, "tanh");
    case Activation::relu:
      return at::relu(x);
    case Activation::relu6:
      return at::hardtanh(x, 0, 6);
    case Activation::silu:
      return at::silu(x);
  }
  throw Error("activation {} is none of the known", static_cast<int>(activation));
}

}  // namespace mmkd::nn
