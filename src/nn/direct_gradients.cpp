#include "mmkd/nn/direct_gradients.h"

#include <ATen/Parallel.h>
#include <torch/autograd.h>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>

#include <algorithm>
#include <unordered_map>
#include <utility>

namespace mmkd::nn {
namespace {

using torch::autograd::variable_list;

struct Slot {
  at::Tensor parameter;
  std::shared_ptr<torch::autograd::Node> accumulator;  // autograd's own way to the gradient; held, so that hooks stay
  std::uintptr_t hook = 0;
  bool allows_rows = false;
  bool is_per_step = false;
  bool is_stale = false;   // counts as 0, whatever is in memory
  bool only_rows = false;  // all but the touched rows are zeros
  std::vector<std::int64_t> touched;
  std::vector<bool> is_touched;

  at::Tensor gradient() const { return parameter.grad(); }

  void release() {
    if (is_per_step) parameter.mutable_grad() = at::Tensor();
  }
  /// Memory, whatever is in it.
  void make() {
    if (!gradient().defined()) parameter.mutable_grad() = at::empty_like(parameter.detach());
  }

  /// Makes what is in memory true again.
  void clear() {
    if (!is_stale) return;
    const at::NoGradGuard no_grad;
    make();
    if (only_rows && allows_rows) {
      const std::int64_t width = parameter.size(1);
      auto* data = gradient().mutable_data_ptr<float>();
      for (const auto row : touched) std::fill_n(data + row * width, width, 0.0F);
    } else {
      gradient().zero_();
    }
    forget_rows();
    only_rows = true;
    is_stale = false;
  }
  void forget_rows() {
    for (const auto row : touched) is_touched[static_cast<std::size_t>(row)] = false;
    touched.clear();
  }
  void touch_all(const at::Tensor& rows) {
    is_touched.resize(static_cast<std::size_t>(parameter.size(0)), false);
    const auto* row = rows.const_data_ptr<std::int64_t>();
    for (std::int64_t i = 0; i < rows.numel(); ++i) {
      if (is_touched[static_cast<std::size_t>(row[i])]) continue;
      is_touched[static_cast<std::size_t>(row[i])] = true;
      touched.push_back(row[i]);
    }
  }
};

/// Before autograd adds a gradient.
struct BeforeAccumulation : torch::autograd::FunctionPreHook {
  explicit BeforeAccumulation(std::weak_ptr<Slot> slot) : slot_(std::move(slot)) {}
  variable_list operator()(const variable_list& gradients) override {
    const auto slot = slot_.lock();
    if (slot && !gradients.empty() && gradients[0].defined()) {
      slot->clear();
      slot->only_rows = false;
    }
    return gradients;
  }

 private:
  std::weak_ptr<Slot> slot_;
};

/// A gradient is complete: what reduces it over ranks reads it now.
struct AfterAccumulation : torch::autograd::FunctionPostHook {
  explicit AfterAccumulation(std::weak_ptr<Slot> slot) : slot_(std::move(slot)) {}
  variable_list operator()(const variable_list& outputs, const variable_list& /*inputs*/) override {
    if (const auto slot = slot_.lock()) slot->clear();
    return outputs;
  }

 private:
  std::weak_ptr<Slot> slot_;
};

bool is_served(const at::Tensor& parameter) {
  constexpr std::int64_t kElements = 4096;  // less is zeroed faster than it is thought about
  return parameter.is_cpu() && parameter.dim() == 2 && parameter.scalar_type() == at::kFloat && parameter.is_leaf() &&
         parameter.requires_grad() && parameter.numel() >= kElements;
}

}  // namespace

struct DirectGradients::Impl {
  std::unordered_map<const c10::TensorImpl*, std::shared_ptr<Slot>> slots;

  Slot* find(const at::Tensor& parameter) const {
    const auto found = slots.find(parameter.unsafeGetTensorImpl());
    if (found == slots.end()) return nullptr;
    return found->second->is_per_step || found->second->gradient().defined() ? found->second.get() : nullptr;
  }
};

namespace {

thread_local const DirectGradients::Impl* active = nullptr;  // between its begin_step() and end_step()

Slot* active_slot(const at::Tensor& parameter) { return active == nullptr ? nullptr : active->find(parameter); }

}  // namespace

DirectGradients::DirectGradients(const std::vector<at::Tensor>& parameters, const std::vector<at::Tensor>& tables,
                                 Memory memory)
    : impl_(std::make_unique<Impl>()) {
  for (const auto& parameter : parameters) {
    if (!is_served(parameter)) continue;
    const auto slot = std::make_shared<Slot>();
    slot->parameter = parameter;
    slot->allows_rows =
        std::any_of(tables.begin(), tables.end(), [&](const at::Tensor& t) { return t.is_same(parameter); });
    // Nothing has been written to a gradient that is still to come: it begins as zeros.
    slot->only_rows = slot->allows_rows && !parameter.grad().defined();
    slot->is_per_step = memory == Memory::per_step && !slot->allows_rows;
    slot->accumulator = torch::autograd::impl::grad_accumulator(parameter);
    slot->accumulator->add_pre_hook(std::make_unique<BeforeAccumulation>(slot));
    slot->hook = slot->accumulator->add_post_hook(std::make_unique<AfterAccumulation>(slot));
    impl_->slots.emplace(parameter.unsafeGetTensorImpl(), slot);
  }
}

DirectGradients::~DirectGradients() {
  if (active == impl_.get()) active = nullptr;
  for (const auto& [impl, slot] : impl_->slots) slot->accumulator->del_post_hook(slot->hook);
}

bool DirectGradients::serves(const at::Tensor& parameter) const { return impl_->find(parameter) != nullptr; }

void DirectGradients::begin_step() {
  release();
  for (const auto& [impl, slot] : impl_->slots) slot->is_stale = slot->is_per_step || slot->gradient().defined();
  active = impl_.get();
}

void DirectGradients::end_step() {
  if (active == impl_.get()) active = nullptr;
  for (const auto& [impl, slot] : impl_->slots) slot->clear();
}

void DirectGradients::release() {
  for (const auto& [impl, slot] : impl_->slots) slot->release();
}

std::optional<at::Tensor> DirectGradients::rows_of(const at::Tensor& table) const {
  const auto* slot = impl_->find(table);
  if (slot == nullptr || !slot->allows_rows || !slot->only_rows) return std::nullopt;
  return at::tensor(slot->touched, at::kLong);
}

void DirectGradients::set_rows(const at::Tensor& table, const at::Tensor& rows, const at::Tensor& values) {
  auto* slot = impl_->find(table);
  slot->is_stale = true;
  slot->clear();
  slot->touch_all(rows);
  add_rows(values.contiguous(), rows.contiguous(), slot->gradient());
}

void DirectGradients::set_dense(const at::Tensor& table) {
  if (auto* slot = impl_->find(table)) slot->only_rows = false;
}

std::optional<DirectGradient> direct_gradient(const at::Tensor& parameter) {
  auto* slot = active_slot(parameter);
  if (slot == nullptr) return std::nullopt;
  slot->make();
  if (!slot->gradient().is_contiguous()) return std::nullopt;
  const bool is_fresh = std::exchange(slot->is_stale, false);
  slot->only_rows = false;
  slot->forget_rows();
  return DirectGradient{slot->gradient(), is_fresh};
}

std::optional<at::Tensor> direct_gradient_of_rows(const at::Tensor& parameter, const at::Tensor& rows) {
  auto* slot = active_slot(parameter);
  if (slot == nullptr || !slot->allows_rows || !slot->gradient().is_contiguous()) return std::nullopt;
  slot->clear();
  slot->touch_all(rows);
  return slot->gradient();
}

void add_rows(const at::Tensor& from, const at::Tensor& ids, const at::Tensor& to, std::int64_t left_out) {
  constexpr std::int64_t kBlock = 64;  // columns
  const std::int64_t width = to.size(1);
  const auto* id = ids.const_data_ptr<std::int64_t>();
  const auto* source = from.const_data_ptr<float>();
  auto* target = to.mutable_data_ptr<float>();
  at::parallel_for(0, (width + kBlock - 1) / kBlock, 1, [&](std::int64_t begin, std::int64_t end) {
    const std::int64_t first = begin * kBlock, last = std::min(end * kBlock, width);
    for (std::int64_t i = 0; i < ids.numel(); ++i) {
      if (id[i] == left_out) continue;
      for (std::int64_t j = first; j < last; ++j) target[id[i] * width + j] += source[i * width + j];
    }
  });
}

}  // namespace mmkd::nn
