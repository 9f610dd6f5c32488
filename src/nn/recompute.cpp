#include "mmkd/nn/recompute.h"

#include <ATen/autocast_mode.h>
#include <torch/autograd.h>

#include <algorithm>

namespace mmkd::nn {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// The autocast of a device on this thread, to be set again on the thread and at the time of backward.
struct AutocastState {
  at::DeviceType device;
  bool is_enabled;
  at::ScalarType type;

  explicit AutocastState(at::DeviceType of)
      : device(of), is_enabled(at::autocast::is_autocast_enabled(of)), type(at::autocast::get_autocast_dtype(of)) {}
  void set() const {
    at::autocast::set_autocast_enabled(device, is_enabled);
    at::autocast::set_autocast_dtype(device, type);
  }
};

/// A state for the life of the object. Casts of parameters are not remembered meanwhile: those made without gradients
/// must not be taken where gradients are wanted.
class AutocastScope {
 public:
  explicit AutocastScope(const AutocastState& state)
      : before_(state.device), remembered_(at::autocast::is_autocast_cache_enabled()) {
    state.set();
    at::autocast::set_autocast_cache_enabled(false);
  }
  ~AutocastScope() {
    at::autocast::set_autocast_cache_enabled(remembered_);
    before_.set();
  }
  AutocastScope(const AutocastScope&) = delete;
  AutocastScope& operator=(const AutocastScope&) = delete;

 private:
  AutocastState before_;
  bool remembered_;
};

/// What backward needs beside the inputs; autograd's saved_data holds values that it knows.
struct Recipe : torch::CustomClassHolder {
  Recipe(TensorFunction function, AutocastState state) : f(std::move(function)), autocast(state) {}
  TensorFunction f;
  AutocastState autocast;
  std::vector<bool> takes, gives;  // which inputs and outputs are defined
};

// Autograd's functions take and give defined tensors alone.

std::vector<bool> which_are_defined(const std::vector<at::Tensor>& tensors) {
  std::vector<bool> defined;
  for (const auto& tensor : tensors) defined.push_back(tensor.defined());
  return defined;
}

variable_list defined_of(std::vector<at::Tensor> tensors) {
  std::erase_if(tensors, [](const at::Tensor& x) { return !x.defined(); });
  return tensors;
}

/// The reverse.
std::vector<at::Tensor> in_their_places(const variable_list& tensors, const std::vector<bool>& defined) {
  std::vector<at::Tensor> all;
  auto next = tensors.begin();
  for (const bool is_defined : defined) all.push_back(is_defined ? *next++ : at::Tensor());
  return all;
}

struct Recomputed : torch::autograd::Function<Recomputed> {
  static variable_list forward(AutogradContext* context, const c10::intrusive_ptr<Recipe>& recipe,
                               at::TensorList inputs) {
    context->set_materialize_grads(false);
    context->saved_data["recipe"] = c10::IValue::make_capsule(recipe);
    context->save_for_backward(inputs.vec());
    const AutocastScope scope(recipe->autocast);
    const auto outputs = recipe->f(in_their_places(inputs.vec(), recipe->takes));
    recipe->gives = which_are_defined(outputs);
    return defined_of(outputs);
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto recipe = c10::static_intrusive_pointer_cast<Recipe>(context->saved_data["recipe"].toCapsule());
    std::vector<at::Tensor> inputs;
    for (const auto& input : context->get_saved_variables())
      inputs.push_back(input.detach().set_requires_grad(input.requires_grad()));
    variable_list outputs;
    {
      const at::AutoGradMode with_gradients(true);
      const AutocastScope scope(recipe->autocast);
      outputs = defined_of(recipe->f(in_their_places(inputs, recipe->takes)));
    }
    variable_list roots, of_roots;
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      if (!gradients[i].defined() || !outputs[i].requires_grad()) continue;
      roots.push_back(outputs[i]);
      of_roots.push_back(gradients[i]);
    }
    outputs.clear();
    torch::autograd::backward(roots, of_roots);
    variable_list of_inputs{at::Tensor()};  // of the recipe
    for (const auto& input : inputs) of_inputs.push_back(input.grad());
    return of_inputs;
  }
};

}  // namespace

std::vector<at::Tensor> recomputed(const TensorFunction& f, const std::vector<at::Tensor>& inputs) {
  const auto is_followed = [](const at::Tensor& x) { return x.defined() && x.requires_grad(); };
  const auto first = std::find_if(inputs.begin(), inputs.end(), is_followed);
  if (!at::GradMode::is_enabled() || first == inputs.end()) return f(inputs);
  const auto recipe = c10::make_intrusive<Recipe>(f, AutocastState(first->device().type()));
  recipe->takes = which_are_defined(inputs);
  const auto given = Recomputed::apply(recipe, at::TensorList(defined_of(inputs)));
  return in_their_places(given, recipe->gives);
}

}  // namespace mmkd::nn
