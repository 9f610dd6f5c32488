#include "mmkd/train/optimizer.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <string>

#include "mmkd/base/error.h"

namespace mmkd {
namespace {

void check_parameters(const std::vector<NamedTensor>& parameters) {
  if (parameters.empty()) throw Error("optimizer: there are no parameters to train");
  std::set<std::string> names;
  for (const auto& [name, tensor] : parameters) {
    if (!names.insert(name).second) throw Error("optimizer: two parameters have the name {}", name);
    if (tensor.scalar_type() != at::kFloat) {
      throw Error("optimizer: parameter {} has type {}; float32 is expected", name,
                  c10::toString(tensor.scalar_type()));
    }
    if (tensor.device() != parameters.front().tensor.device()) {
      throw Error("optimizer: parameter {} lies on {}, parameter {} on {}; all must be on one device", name,
                  tensor.device().str(), parameters.front().name, parameters.front().tensor.device().str());
    }
  }
}

void restore(const std::map<std::string, at::Tensor>& state, const std::string& name, const at::Tensor& into) {
  const auto found = state.find(name);
  if (found == state.end()) throw Error("optimizer state: {} is missing; the checkpoint is of another model", name);
  if (found->second.sizes() != into.sizes()) {
    throw Error("optimizer state: {} has shape [{}], the model needs [{}]; the checkpoint is of another model", name,
                fmt::join(found->second.sizes(), ", "), fmt::join(into.sizes(), ", "));
  }
  into.copy_(found->second);
}

}  // namespace

AdamW::AdamW(std::vector<NamedTensor> parameters, const AdamWOptions& options, std::size_t scaled, double scale)
    : parameters_(std::move(parameters)), options_(options), scaled_(scaled), scale_(scale) {
  check_parameters(parameters_);
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> tensors;
  for (const auto& [name, tensor] : parameters_) tensors.push_back(tensor);
  values_ = FlatTensors::zeros_like(tensors);
  exp_avg_ = FlatTensors::zeros_like(tensors);
  exp_avg_sq_ = FlatTensors::zeros_like(tensors);
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    values_.parts[i].copy_(tensors[i]);
    tensors[i].set_data(values_.parts[i]);
  }
  step_ = at::zeros({}, tensors.front().options().requires_grad(false));
}

/// Parameters whose gradients lie behind one another as their values do, as one tensor each: [elements].
struct AdamW::Run {
  at::Tensor values, gradients, exp_avg, exp_avg_sq;
  bool scaled;
};

std::vector<AdamW::Run> AdamW::runs() const {
  std::vector<Run> runs;
  const auto gradient_of = [&](std::size_t i) {
    const at::Tensor& gradient = parameters_[i].tensor.grad();
    if (!gradient.defined())
      throw Error("optimizer: parameter {} has no gradient; no loss depends on it", parameters_[i].name);
    return gradient;
  };
  for (std::size_t begin = 0; begin < parameters_.size();) {
    const at::Tensor first = gradient_of(begin);
    const std::int64_t offset = values_.offsets[begin];
    std::size_t end = begin + 1;
    for (; end < parameters_.size() && (end < scaled_) == (begin < scaled_); ++end) {
      const at::Tensor gradient = gradient_of(end);
      const bool follows = first.is_contiguous() && gradient.is_contiguous() && gradient.is_alias_of(first) &&
                           gradient.storage_offset() - first.storage_offset() == values_.offsets[end] - offset;
      if (!follows) break;
    }
    const std::int64_t size = values_.offsets[end - 1] + parameters_[end - 1].tensor.numel() - offset;
    const auto part = [&](const FlatTensors& flat) { return flat.block.narrow(0, offset, size); };
    const at::Tensor gradients =
        end == begin + 1 ? first.reshape({-1}) : first.as_strided({size}, {1}, first.storage_offset());
    runs.push_back({part(values_), gradients, part(exp_avg_), part(exp_avg_sq_), begin < scaled_});
    begin = end;
  }
  return runs;
}

/// The parameters that learn at the scaled rate, or the others.
void AdamW::update(const std::vector<Run>& runs, bool scaled, double learning_rate,
                   const std::optional<at::Tensor>& divisor, const at::Tensor& skip) {
  std::vector<at::Tensor> values, gradients, exp_avg, exp_avg_sq;
  for (const auto& run : runs) {
    if (run.scaled != scaled) continue;
    values.push_back(run.values);
    gradients.push_back(run.gradients);
    exp_avg.push_back(run.exp_avg);
    exp_avg_sq.push_back(run.exp_avg_sq);
  }
  if (values.empty()) return;
  const std::vector<at::Tensor> steps(values.size(), step_);
  at::_fused_adamw_(values, gradients, exp_avg, exp_avg_sq, /*max_exp_avg_sqs=*/{}, steps, learning_rate,
                    options_.betas[0], options_.betas[1], options_.weight_decay, options_.eps, /*amsgrad=*/false,
                    /*maximize=*/false, divisor, skip);
}

AdamW::Step AdamW::step(double learning_rate, const at::Tensor& skip) {
  const at::NoGradGuard no_grad;
  const auto all = runs();
  std::vector<at::Tensor> gradients;
  for (const auto& run : all) gradients.push_back(run.gradients);
  Step result;
  result.norm = at::linalg_vector_norm(at::stack(at::_foreach_norm(gradients)), 2);
  result.skipped = at::isfinite(result.norm).logical_not().to(at::kFloat);
  if (skip.defined()) result.skipped = at::maximum(result.skipped, skip.ne(0).to(at::kFloat));
  std::optional<at::Tensor> divisor;
  // The kernels divide gradients by a scale as they read them, which spares clipping its own pass over memory. It is
  // exactly 1 where nothing is to be clipped.
  if (options_.clip_norm > 0) divisor = ((result.norm + 1e-6) / options_.clip_norm).clamp_min(1.0);
  step_.add_(1 - result.skipped);
  update(all, true, learning_rate * scale_, divisor, result.skipped);
  update(all, false, learning_rate, divisor, result.skipped);
  return result;
}

void AdamW::zero_grad(const std::function<bool(const at::Tensor& parameter)>& is_done) {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> gradients;
  for (const auto& [name, parameter] : parameters_)
    if (parameter.grad().defined() && !(is_done && is_done(parameter))) gradients.push_back(parameter.grad());
  if (!gradients.empty()) at::_foreach_zero_(gradients);
}

std::vector<NamedTensor> AdamW::state() const {
  std::vector<NamedTensor> state{{"step", step_}};
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    state.push_back({"exp_avg." + parameters_[i].name, exp_avg_.parts[i]});
    state.push_back({"exp_avg_sq." + parameters_[i].name, exp_avg_sq_.parts[i]});
  }
  return state;
}

void AdamW::load_state(const std::vector<NamedTensor>& state) {
  const at::NoGradGuard no_grad;
  std::map<std::string, at::Tensor> by_name;
  for (const auto& [name, tensor] : state) by_name.emplace(name, tensor);
  restore(by_name, "step", step_);
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    restore(by_name, "exp_avg." + parameters_[i].name, exp_avg_.parts[i]);
    restore(by_name, "exp_avg_sq." + parameters_[i].name, exp_avg_sq_.parts[i]);
  }
}

}  // namespace mmkd
