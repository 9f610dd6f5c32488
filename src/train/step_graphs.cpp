#include "step_graphs.h"

#include <c10/core/impl/VirtualGuardImpl.h>
#include <fmt/ranges.h>

#include <set>
#include <utility>
#include <vector>

#include "mmkd/base/error.h"
#include "mmkd/base/log.h"

namespace mmkd {
namespace {

std::string size_of(Batch& batch) {
  std::string key = fmt::format("{} of {}", batch.rows.size(), batch.shares.global_count);
  for (const auto* tensor : device_tensors(batch))
    key += fmt::format(" {}[{}]", c10::toString(tensor->scalar_type()), fmt::join(tensor->sizes(), ","));
  return key;
}

/// With tensors of its own.
Batch copied(Batch batch) {
  change_device_tensors(batch, [](const at::Tensor& tensor) { return tensor.clone(at::MemoryFormat::Contiguous); });
  return batch;
}

void copy_values(Batch from, Batch& to) {
  const auto sources = device_tensors(from), targets = device_tensors(to);
  std::set<const void*> done;
  for (std::size_t i = 0; i < targets.size(); ++i) {
    if (done.insert(targets[i]->unsafeGetTensorImpl()).second) targets[i]->copy_(*sources[i], /*non_blocking=*/true);
  }
}

/// The lengths of texts are known to the host alone, and differ where sizes do not.
Batch without_lengths(Batch batch) {
  batch.teacher.text_lengths = at::Tensor();
  batch.student.text_lengths = at::Tensor();
  return batch;
}

constexpr int kWarmUp = 2;              // steps
constexpr std::size_t kMostSizes = 64;  // more would not pay for the recording

}  // namespace

void StepGraphs::run(const Batch& batch_in, const Step& step) {
  // The filler of a rank without samples is none of these.
  if (is_off_ || batch_in.rows.empty()) return step(batch_in, false);
  Batch batch = without_lengths(batch_in);
  const auto key = size_of(batch);
  if (sizes_.size() >= kMostSizes && !sizes_.contains(key)) return step(batch_in, false);
  auto& size = sizes_[key];
  try {
    if (size.graph) {
      copy_values(std::move(batch), size.batch);
      return size.graph->replay();
    }
    if (++size.met <= kWarmUp) return step(batch, true);
    record(size, batch, step);
  } catch (const Error& error) {
    log::warn("training.cuda_graphs: steps are not recorded: {}", error.what());
    is_off_ = true;
    sizes_.clear();
    return step(batch_in, false);
  }
  size.graph->replay();
}

StreamOfGraphs::StreamOfGraphs(at::Device device) : device_(device) {
  if (device.is_cpu()) return;
  const c10::impl::VirtualGuardImpl guard(device.type());
  guard.synchronizeDevice(device.index());
  stream_.emplace(guard.getStreamFromGlobalPool(device));
}

StreamOfGraphs::~StreamOfGraphs() {
  if (device_.is_cpu()) return;
  try {
    c10::impl::VirtualGuardImpl(device_.type()).synchronizeDevice(device_.index());
  } catch (const std::exception&) {  // NOLINT(bugprone-empty-catch): later work of the device tells it
  }
}

void StepGraphs::record(OfSize& size, const Batch& batch, const Step& step) const {
  size.batch = copied(batch);
  auto graph = make_graph_();
  graph->begin();
  try {
    step(size.batch, true);
  } catch (const std::exception& error) {
    try {
      graph->end();
    } catch (const Error&) {  // NOLINT(bugprone-empty-catch): what went wrong first is told
    }
    throw Error("{}", error.what());
  }
  graph->end();
  size.graph = std::move(graph);
}

}  // namespace mmkd
