#include <algorithm>
#include <cstddef>
#include <string_view>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
#include <torch/csrc/distributed/c10d/comm.hpp>
#include <torch/csrc/distributed/c10d/reducer.hpp>
#include <unordered_set>
#include <utility>

#include "mmkd/base/error.h"
#include "mmkd/dist/flat_tensors.h"
#include "mmkd/dist/world.h"

namespace mmkd {

namespace {

constexpr std::size_t kBroadcastBytes = std::size_t{64} << 20;

void require_usable(const std::vector<at::Tensor>& parameters) {
  if (parameters.empty()) throw Error("GradSync: no parameters");
  std::unordered_set<const void*> seen;
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    if (!parameters[i].requires_grad() || !parameters[i].is_leaf())
      throw Error("GradSync: parameter {} of {} is not a leaf that requires gradients", i, parameters.size());
    if (!seen.insert(parameters[i].unsafeGetTensorImpl()).second)
      throw Error("GradSync: parameter {} of {} is there twice (tied weights must be given once)", i,
                  parameters.size());
  }
}

/// Gradients are zeros from the start, so that the first step is none of its own: 0 + g may differ from g in the sign
/// of a zero, and a resumed run must not differ at all. In one block, whose pages come when they are written to; c10d
/// and DirectGradients put their own in their place.
void define_gradients(const std::vector<at::Tensor>& parameters) {
  const auto has_gradient = [](const at::Tensor& parameter) { return parameter.grad().defined(); };
  if (std::none_of(parameters.begin(), parameters.end(), has_gradient)) {
    const auto flat = FlatTensors::zeros_like(parameters);
    for (std::size_t i = 0; i < parameters.size(); ++i) parameters[i].mutable_grad() = flat.parts[i];
    return;
  }
  for (const auto& parameter : parameters)
    if (!parameter.grad().defined()) parameter.mutable_grad() = at::zeros_like(parameter.detach());
}

void broadcast_from_rank_zero(const World& world, const std::vector<at::Tensor>& parameters) {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> values;
  for (const auto& parameter : parameters) values.push_back(parameter.detach());
  c10d::broadcast_coalesced(world.group(), values, kBroadcastBytes, 0);
}

/// The backend divides as it adds; the Reducer by itself makes a pass over each gradient for that.
class Average final : public c10d::CppCommHookInterface<c10::intrusive_ptr<c10d::ProcessGroup>> {
 public:
  Average(c10::intrusive_ptr<c10d::ProcessGroup> group, at::ScalarType exchange)
      : CppCommHookInterface(std::move(group)), exchange_(exchange) {}
  c10::intrusive_ptr<c10::ivalue::Future> runHook(c10d::GradBucket& bucket) override {
    const at::Tensor gradients = bucket.getBufferRef();
    std::vector<at::Tensor> sent{gradients.to(exchange_)};  // itself where the type is the same
    c10d::AllreduceOptions options;
    options.reduceOp = c10d::ReduceOp::AVG;
    auto reduced = state_->allreduce(sent, options)->getFuture();
    if (sent[0].is_same(gradients)) return reduced;
    return reduced->then(
        [gradients](c10::ivalue::Future& done) {
          const at::NoGradGuard no_grad;
          gradients.copy_(done.value().toTensorVector().at(0));
          return c10::IValue(gradients);
        },
        c10::TensorType::get());
  }

 private:
  at::ScalarType exchange_;
};

std::unique_ptr<c10d::Reducer> make_reducer(const World& world, std::vector<at::Tensor> parameters,
                                            at::ScalarType exchange) {
  const std::vector<bool> no_sparse_gradients(parameters.size(), false);
  const std::vector<std::size_t> limits{c10d::kDefaultFirstBucketBytes, c10d::kDefaultBucketBytesCap};
  const auto in_forward_order =
      std::get<0>(c10d::compute_bucket_assignment_by_size(parameters, limits, no_sparse_gradients));
  // Gradients become ready from the last layer to the first.
  std::vector<std::vector<std::size_t>> buckets(in_forward_order.rbegin(), in_forward_order.rend());
  auto reducer = std::make_unique<c10d::Reducer>(
      std::move(parameters), std::move(buckets), world.group(), no_sparse_gradients, c10d::kDefaultBucketBytesCap,
      /*find_unused_parameters=*/false, /*gradient_as_bucket_view=*/true,
      /*param_names=*/std::unordered_map<std::size_t, std::string>{}, c10d::kDefaultFirstBucketBytes,
      /*skip_all_reduce_unused_params=*/false, /*use_python_reducer=*/false,
      /*bucket_bytes_cap_list=*/std::vector<std::int64_t>{});
  reducer->register_comm_hook(std::make_unique<Average>(world.group(), exchange));
  return reducer;
}

// Reducer notices at the next step that a parameter had no gradient in the last one, and speaks of Python then.
template <class Call>
void explain_unfinished(Call&& call) {
  try {
    call();
  } catch (const c10::Error& error) {
    const std::string_view message = error.what_without_backtrace();
    if (message.find("finished reduction in the prior iteration") == std::string_view::npos) throw;
    throw Error(
        "GradSync: the gradients of the last step were not all averaged: every parameter must take part in every last "
        "backward pass, on every rank. A model that uses a parameter only at times must not register it, or must "
        "multiply it by zero.");
  }
}

}  // namespace

struct GradSync::Impl {
  std::unique_ptr<c10d::Reducer> reducer;  // null with one rank
};

GradSync::GradSync(const World& world, std::vector<at::Tensor> parameters,
                   const std::vector<at::Tensor>& averaged_elsewhere, at::ScalarType exchange)
    : impl_(std::make_unique<Impl>()) {
  require_usable(parameters);
  define_gradients(parameters);
  if (world.size() == 1) return;
  require_same_shapes(world, parameters);
  broadcast_from_rank_zero(world, parameters);
  std::erase_if(parameters, [&](const at::Tensor& parameter) {
    return std::any_of(averaged_elsewhere.begin(), averaged_elsewhere.end(),
                       [&](const at::Tensor& other) { return other.is_same(parameter); });
  });
  impl_->reducer = make_reducer(world, std::move(parameters), exchange);
}

GradSync::~GradSync() = default;
GradSync::GradSync(GradSync&&) noexcept = default;

void GradSync::begin_step() {
  if (!impl_->reducer) return;
  explain_unfinished([&] {
    impl_->reducer->prepare_for_forward();
    impl_->reducer->rebuild_buckets();
  });
}

void GradSync::begin_last_backward() {
  if (!impl_->reducer) return;
  explain_unfinished([&] { impl_->reducer->prepare_for_backward({}); });
}

}  // namespace mmkd
