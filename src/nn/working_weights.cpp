#include "mmkd/nn/working_weights.h"

#include <fmt/ranges.h>

#include <unordered_map>

#include "mmkd/base/error.h"

namespace mmkd::nn {

struct WorkingWeights::Impl {
  struct Entry {
    at::Tensor parameter;  // held, so that its address stays its own
    at::Tensor copy;       // undefined: not needed so far
    std::int64_t version = 0;
    bool is_given = false;
  };
  std::unordered_map<const c10::TensorImpl*, Entry> entries;
};

namespace {

thread_local WorkingWeights::Impl* active = nullptr;

bool is_served(const at::Tensor& parameter) {
  return parameter.is_cpu() && parameter.dim() == 2 && parameter.scalar_type() == at::kFloat &&
         parameter.is_contiguous();
}

}  // namespace

WorkingWeights::WorkingWeights(const std::vector<at::Tensor>& parameters) : impl_(std::make_unique<Impl>()) {
  if (active != nullptr) throw Error("working weights: there are some already");
  for (const auto& parameter : parameters)
    if (is_served(parameter)) impl_->entries[parameter.unsafeGetTensorImpl()].parameter = parameter;
  active = impl_.get();
}

WorkingWeights::WorkingWeights(const std::vector<at::Tensor>& parameters, const std::vector<at::Tensor>& copies)
    : impl_(std::make_unique<Impl>()) {
  if (active != nullptr) throw Error("working weights: there are some already");
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    if (copies.at(i).defined())
      impl_->entries[parameters[i].unsafeGetTensorImpl()] = {parameters[i], copies[i], parameters[i]._version(), true};
  }
  active = impl_.get();
}

WorkingWeights::~WorkingWeights() {
  if (active == impl_.get()) active = nullptr;
}

at::Tensor WorkingWeights::copy_of(const at::Tensor& parameter) const {
  const auto found = impl_->entries.find(parameter.unsafeGetTensorImpl());
  if (found == impl_->entries.end() || found->second.version != parameter._version()) return {};
  return found->second.copy;
}

at::Tensor working_weight(const at::Tensor& weight, at::ScalarType type) {
  if (active == nullptr || type != at::kBFloat16) return weight.to(type);
  const auto found = active->entries.find(weight.unsafeGetTensorImpl());
  if (found == active->entries.end()) return weight.to(type);
  auto& [parameter, copy, version, is_given] = found->second;
  const at::NoGradGuard no_grad;
  if (is_given && version != weight._version())
    throw Error("working weights: a parameter [{}] was changed by others than its optimizer",
                fmt::join(weight.sizes(), ", "));
  if (!copy.defined() || version != weight._version()) {
    // A new tensor each time: a graph may hold the one before.
    copy = weight.detach().to(type);
    version = weight._version();
  }
  return copy;
}

}  // namespace mmkd::nn
