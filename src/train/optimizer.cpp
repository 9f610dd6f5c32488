#include "mmkd/train/optimizer.h"

#include <fmt/ranges.h>

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
  for (const auto& [name, tensor] : parameters_) {
    exp_avg_.push_back(at::zeros_like(tensor));
    exp_avg_sq_.push_back(at::zeros_like(tensor));
  }
  step_ = at::zeros({}, parameters_.front().tensor.options().requires_grad(false));
}

std::vector<at::Tensor> AdamW::gradients() const {
  std::vector<at::Tensor> gradients;
  gradients.reserve(parameters_.size());
  for (const auto& [name, tensor] : parameters_) {
    if (!tensor.grad().defined()) throw Error("optimizer: parameter {} has no gradient; no loss depends on it", name);
    gradients.push_back(tensor.grad());
  }
  return gradients;
}

/// Parameters [begin, end).
void AdamW::update(std::size_t begin, std::size_t end, double learning_rate, const std::vector<at::Tensor>& grads,
                   const std::optional<at::Tensor>& divisor, const at::Tensor& skip) {
  if (begin == end) return;
  const auto part = [&](const std::vector<at::Tensor>& all) {
    return std::vector<at::Tensor>(all.begin() + static_cast<std::ptrdiff_t>(begin),
                                   all.begin() + static_cast<std::ptrdiff_t>(end));
  };
  std::vector<at::Tensor> values;
  for (std::size_t i = begin; i < end; ++i) values.push_back(parameters_[i].tensor);
  const std::vector<at::Tensor> steps(values.size(), step_);
  at::_fused_adamw_(values, part(grads), part(exp_avg_), part(exp_avg_sq_), /*max_exp_avg_sqs=*/{}, steps,
                    learning_rate, options_.betas[0], options_.betas[1], options_.weight_decay, options_.eps,
                    /*amsgrad=*/false, /*maximize=*/false, divisor, skip);
}

AdamW::Step AdamW::step(double learning_rate, const at::Tensor& skip) {
  const at::NoGradGuard no_grad;
  auto grads = gradients();
  Step result;
  result.norm = at::linalg_vector_norm(at::stack(at::_foreach_norm(grads)), 2);
  result.skipped = at::isfinite(result.norm).logical_not().to(at::kFloat);
  if (skip.defined()) result.skipped = at::maximum(result.skipped, skip.ne(0).to(at::kFloat));
  std::optional<at::Tensor> divisor;
  // The kernels divide gradients by a scale as they read them, which spares clipping its own pass over memory. It is
  // exactly 1 where nothing is to be clipped.
  if (options_.clip_norm > 0) divisor = ((result.norm + 1e-6) / options_.clip_norm).clamp_min(1.0);
  step_.add_(1 - result.skipped);
  update(0, scaled_, learning_rate * scale_, grads, divisor, result.skipped);
  update(scaled_, parameters_.size(), learning_rate, grads, divisor, result.skipped);
  return result;
}

void AdamW::zero_grad() {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> present;
  for (const auto& parameter : parameters_) {
    if (parameter.tensor.grad().defined()) present.push_back(parameter.tensor.grad());
  }
  if (!present.empty()) at::_foreach_zero_(present);
}

std::vector<NamedTensor> AdamW::state() const {
  std::vector<NamedTensor> state{{"step", step_}};
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    state.push_back({"exp_avg." + parameters_[i].name, exp_avg_[i]});
    state.push_back({"exp_avg_sq." + parameters_[i].name, exp_avg_sq_[i]});
  }
  return state;
}

void AdamW::load_state(const std::vector<NamedTensor>& state) {
  const at::NoGradGuard no_grad;
  std::map<std::string, at::Tensor> by_name;
  for (const auto& [name, tensor] : state) by_name.emplace(name, tensor);
  restore(by_name, "step", step_);
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    restore(by_name, "exp_avg." + parameters_[i].name, exp_avg_[i]);
    restore(by_name, "exp_avg_sq." + parameters_[i].name, exp_avg_sq_[i]);
  }
}

}  // namespace mmkd
