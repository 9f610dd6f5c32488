#include "mmkd/nn/linear.h"

#include <ATen/Parallel.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/autograd.h>

#include <map>
#include <tuple>

#include "mmkd/kernels/norm.h"
#include "mmkd/nn/activation.h"
#include "mmkd/nn/cpu_kernels.h"
#include "mmkd/nn/direct_gradients.h"
#include "mmkd/nn/gelu.h"
#include "mmkd/nn/working_weights.h"

namespace mmkd::nn {
namespace {

// M rows of x, K inputs, N outputs

/// oneDNN's linear layer with a weight in oneDNN's own form, which PyTorch has for its compiler.
class OneDnn {
 public:
  static const OneDnn& get() {
    static const OneDnn instance;
    return instance;
  }
  bool is_there() const { return reorder_.has_value() && linear_.has_value(); }

  /// weight [N, K] bfloat16 -> the same values in an opaque form for about `rows` rows.
  at::Tensor prepare(const at::Tensor& weight, std::int64_t rows) const {
    return reorder_->typed<at::Tensor(const at::Tensor&, std::optional<std::int64_t>)>().call(weight, rows);
  }
  /// bias undefined: none. `activation`: none or gelu.
  at::Tensor linear(const at::Tensor& x, const at::Tensor& prepared, const at::Tensor& bias,
                    const char* activation) const {
    using Signature =
        at::Tensor(const at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&, std::string_view,
                   c10::List<std::optional<at::Scalar>>, std::optional<std::string_view>);
    return linear_->typed<Signature>().call(x, prepared, bias.defined() ? std::optional(bias) : std::nullopt,
                                            activation, c10::List<std::optional<at::Scalar>>(), "none");
  }

 private:
  OneDnn() {
    auto& dispatcher = c10::Dispatcher::singleton();
    reorder_ = dispatcher.findSchema({"mkldnn::_reorder_linear_weight", ""});
    linear_ = dispatcher.findSchema({"mkldnn::_linear_pointwise", ""});
  }
  std::optional<c10::OperatorHandle> reorder_, linear_;
};

at::Tensor as_bfloat16(const at::Tensor& x) { return x.defined() ? x.to(at::kBFloat16) : x; }

bool runs_in_bfloat16(const at::Tensor& x) {
  return x.is_cpu() && compute_type(x) == at::kBFloat16 && cpu_kernels_run(at::kBFloat16) && OneDnn::get().is_there();
}

// ---------------------------------------------------------------- with gradients

/// Whether making the prepared form for one product costs less than it saves: measured with AMX; without it the two
/// ways hardly differ.
bool pays_for_one_product(std::int64_t rows) {
  constexpr std::int64_t kRows = 2048;
  return rows >= kRows && kernels::tiles_available();
}

at::Tensor column_sums(const at::Tensor& x) {
  constexpr std::int64_t kMultiple = 16, kBlock = 128;
  const std::int64_t rows = x.size(0), columns = x.size(1);
  if (x.scalar_type() != at::kBFloat16 || columns % kMultiple != 0 || !cpu_kernels_run(at::kBFloat16))
    return x.sum(0, /*keepdim=*/false, at::kFloat);
  const at::Tensor sums = at::empty({columns}, x.options().dtype(at::kFloat));
  const auto* data = static_cast<const std::uint16_t*>(x.const_data_ptr());
  auto* to = sums.mutable_data_ptr<float>();
  at::parallel_for(0, (columns + kBlock - 1) / kBlock, 1, [&](std::int64_t begin, std::int64_t end) {
    const std::int64_t first = begin * kBlock, last = std::min(end * kBlock, columns);
    kernels::column_sums(data + first, columns, rows, last - first, to + first);
  });
  return sums;
}

/// The gradient of a weight [N, K] from x [M, K] and `gradient` [M, N], of one type, undefined where it has been
/// written.
at::Tensor gradient_of_weight(const at::Tensor& weight, const at::Tensor& gradient, const at::Tensor& x) {
  const auto direct = direct_gradient(weight);
  if (x.scalar_type() == at::kFloat) {
    if (!direct) return at::mm(gradient.t(), x);
    at::Tensor target = direct->tensor;
    if (direct->is_fresh) {
      at::mm_out(target, gradient.t(), x);
    } else {
      target.addmm_(gradient.t(), x);
    }
    return {};
  }
  // A product is faster with the longer side first.
  const at::Tensor product =
      weight.size(0) >= weight.size(1) ? at::mm(gradient.t(), x) : at::mm(x.t(), gradient).t().contiguous();
  if (!direct) return product.to(at::kFloat);
  if (direct->is_fresh) {
    direct->tensor.copy_(product);
  } else {
    direct->tensor.add_(product);
  }
  return {};
}

/// x [M, K], a float32 weight [N, K] and bias [N]; computed in `type`, float32 or bfloat16. `of_gelu`: of GELU(x),
/// which backward computes again rather than that it is kept.
struct LinearOfRows : torch::autograd::Function<LinearOfRows> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x_in, const at::Tensor& weight,
                            const std::optional<at::Tensor>& bias, at::ScalarType type, bool of_gelu) {
    const at::Tensor kept = of_gelu ? x_in.to(type).contiguous() : x_in.to(type), narrow = working_weight(weight, type);
    const at::Tensor narrow_bias = bias ? bias->to(type) : at::Tensor();
    context->save_for_backward({kept, narrow, weight});
    context->saved_data["has_bias"] = bias.has_value();
    context->saved_data["x_type"] = static_cast<std::int64_t>(x_in.scalar_type());
    context->saved_data["of_gelu"] = of_gelu;
    const at::Tensor x = of_gelu ? gelu_values(kept) : kept;
    if (type == at::kFloat || !pays_for_one_product(x.size(0))) return at::linear(x, narrow, narrow_bias);
    return OneDnn::get().linear(x, OneDnn::get().prepare(narrow.contiguous(), x.size(0)), narrow_bias, "none");
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const at::Tensor &narrow = saved[1], &weight = saved[2];
    at::Tensor x = saved[0];
    const at::Tensor gradient = gradients[0].to(x.scalar_type()).contiguous();
    const auto wants = [&](std::size_t input) { return context->needs_input_grad(input); };
    at::Tensor of_x, of_weight, of_bias;
    if (wants(0)) of_x = at::mm(gradient, narrow);
    if (context->saved_data["of_gelu"].toBool()) x = wants(0) ? gelu_gradient_and_values(x, of_x) : gelu_values(x);
    if (wants(0)) of_x = of_x.to(static_cast<at::ScalarType>(context->saved_data["x_type"].toInt()));
    if (wants(1)) of_weight = gradient_of_weight(weight, gradient, x);
    if (context->saved_data["has_bias"].toBool() && wants(2)) of_bias = column_sums(gradient);
    return {of_x, of_weight, of_bias, at::Tensor(), at::Tensor()};
  }
};

// ---------------------------------------------------------------- without gradients

}  // namespace

struct ConstantWeights::Prepared {
  struct Layer {
    at::Tensor source;  // held, so that its address stays its own
    std::uint32_t version = 0;
    at::Tensor weight, bias;
  };
  std::map<std::tuple<const void*, std::int64_t, std::int64_t>, Layer> layers;  // by address and shape
};

namespace {
thread_local ConstantWeights::Prepared* constant = nullptr;  // of the outermost ConstantWeights
}

ConstantWeights::ConstantWeights() {
  if (constant != nullptr) return;
  prepared_ = std::make_unique<Prepared>();
  constant = prepared_.get();
}

ConstantWeights::~ConstantWeights() {
  if (prepared_) constant = nullptr;
}

namespace {

bool uses_constant_weights() { return constant != nullptr && !at::GradMode::is_enabled(); }

at::Tensor linear_of_constant(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                              const char* activation) {
  auto& layer = constant->layers[{weight.const_data_ptr(), weight.size(0), weight.size(1)}];
  if (!layer.weight.defined() || layer.version != weight._version()) {
    layer.source = weight;
    layer.version = weight._version();
    layer.weight = OneDnn::get().prepare(as_bfloat16(weight).contiguous(), x.numel() / x.size(-1));
    layer.bias = as_bfloat16(bias);
  }
  return OneDnn::get().linear(as_bfloat16(x), layer.weight, layer.bias, activation);
}

/// body() with autocast out of the way: it says all types itself.
template <class Body>
at::Tensor without_autocast(Body body) {
  const c10::impl::ExcludeDispatchKeyGuard guard(c10::DispatchKey::AutocastCPU);
  return body();
}

/// linear() by LinearOfRows, over the last dimension.
at::Tensor linear_of_rows(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, at::ScalarType type,
                          bool of_gelu) {
  const at::Tensor rows = x.dim() == 2 ? x : x.reshape({-1, x.size(-1)});
  const at::Tensor y =
      LinearOfRows::apply(rows, weight, bias.defined() ? std::optional(bias) : std::nullopt, type, of_gelu);
  if (x.dim() == 2) return y;
  auto shape = x.sizes().vec();
  shape.back() = y.size(1);
  return y.view(shape);
}

/// Whether LinearOfRows serves x.
bool is_served(const at::Tensor& x) { return runs_in_bfloat16(x) || (x.is_cpu() && compute_type(x) == at::kFloat); }

}  // namespace

at::Tensor linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  const bool narrow = runs_in_bfloat16(x);
  if (!is_served(x)) return at::linear(x, weight, bias);
  const auto type = compute_type(x);  // of the caller's autocast
  return without_autocast([&] {
    if (narrow && uses_constant_weights()) return linear_of_constant(x, weight, bias, "none");
    // Counters of operations and profilers know at::linear.
    if (!at::GradMode::is_enabled() && !narrow) return at::linear(x, weight, bias);
    return linear_of_rows(x, weight, bias, type, false);
  });
}

at::Tensor linear_gelu(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  if (!uses_constant_weights() || !runs_in_bfloat16(x)) return activate(Activation::gelu_erf, linear(x, weight, bias));
  return without_autocast([&] { return linear_of_constant(x, weight, bias, "gelu"); });
}

at::Tensor gelu_linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  const auto type = compute_type(x);
  if (!at::GradMode::is_enabled() || !is_served(x) || !fast_gelu_runs(x) || x.scalar_type() != type)
    return linear(activate(Activation::gelu_erf, x), weight, bias);
  return without_autocast([&] { return linear_of_rows(x, weight, bias, type, true); });
}

}  // namespace mmkd::nn
