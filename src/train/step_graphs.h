#pragma once
#include <c10/core/StreamGuard.h>

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "mmkd/dist/device_graph.h"
#include "mmkd/train/batch.h"

namespace mmkd {

/// Training steps whose device work is recorded, once for each size of batch, and then replayed: the host gives a
/// device one piece of work a step instead of a thousand kernels. Sizes that are met for the first times are computed
/// as usual, which also gets everything ready that is made at a first use.
class StepGraphs {
 public:
  using MakeGraph = std::function<std::unique_ptr<DeviceGraph>()>;
  /// What a step does with a batch. Of `recorded` batches it may use tensors on the device, and of the rest only what
  /// is the same for all batches of this size; it throws Error where that does not suffice, before anything of the
  /// model has changed.
  using Step = std::function<void(const Batch& batch, bool recorded)>;

  explicit StepGraphs(MakeGraph make_graph) : make_graph_(std::move(make_graph)) {}

  /// Steps that cannot be recorded are computed as usual, after a warning; so are all that follow.
  void run(const Batch& batch, const Step& step);

 private:
  struct OfSize {
    int met = 0;
    Batch batch;  // what the graph reads
    std::unique_ptr<DeviceGraph> graph;
  };
  void record(OfSize& size, const Batch& batch, const Step& step) const;

  MakeGraph make_graph_;
  std::map<std::string, OfSize> sizes_;
  bool is_off_ = false;
};

/// Graphs can only be made of what is given to another stream than the device's default one. While one lives, that is
/// where the calling thread's work goes.
class StreamOfGraphs {
 public:
  /// The CPU: nothing changes.
  explicit StreamOfGraphs(at::Device device);
  StreamOfGraphs(const StreamOfGraphs&) = delete;
  StreamOfGraphs& operator=(const StreamOfGraphs&) = delete;
  ~StreamOfGraphs();

 private:
  at::Device device_;
  std::optional<c10::StreamGuard> stream_;
};

}  // namespace mmkd
