#include "graph.h"

#include <ATen/core/CachingHostAllocator.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAFunctions.h>

#include <mutex>

namespace mmkd::cuda {
namespace {

using Pool = decltype(at::cuda::graph_pool_handle());

/// The memory that graphs share. A pool whose last graph has gone must not be used again, so there is a new one then.
class SharedPool {
 public:
  static SharedPool& get() {
    static SharedPool instance;
    return instance;
  }
  Pool enter() {
    const std::scoped_lock lock(mutex_);
    if (graphs_++ == 0) pool_ = at::cuda::graph_pool_handle();
    return pool_;
  }
  void leave() {
    const std::scoped_lock lock(mutex_);
    --graphs_;
  }
  /// A recording that failed may have left the pool in any state: later graphs share another one.
  void abandon() {
    const std::scoped_lock lock(mutex_);
    pool_ = at::cuda::graph_pool_handle();
  }

 private:
  std::mutex mutex_;
  int graphs_ = 0;
  Pool pool_;
};

struct Graph : at::cuda::CUDAGraph {
  bool has_ended() const { return capture_ended_; }

  c10::DeviceIndex device = c10::cuda::current_device();
  Pool pool = SharedPool::get().enter();
  ~Graph() { SharedPool::get().leave(); }
};

template <class Call>
void as_far_as_possible(const Call& call) {
  try {
    call();
  } catch (const std::exception&) {  // NOLINT(bugprone-empty-catch): what failed before is told
  }
}

/// What CUDAGraph leaves undone where recording fails: allocators would go on as if it were under way, and give no
/// memory of batches back.
void end_allocations(const Graph& graph) {
  namespace device_memory = c10::cuda::CUDACachingAllocator;
  auto* const host_memory = at::getHostAllocator(at::kCUDA);
  as_far_as_possible([&] {
    device_memory::endAllocateToPool(graph.device, graph.pool);
    device_memory::releasePool(graph.device, graph.pool);
  });
  as_far_as_possible([&] {
    host_memory->end_allocate_to_pool(graph.pool);
    host_memory->release_pool(graph.pool);
  });
}

Graph& graph_of(void* graph) { return *static_cast<Graph*>(graph); }

/// call(), and after an exception the allocators as if nothing had been recorded.
template <class Call>
void recording(Graph& graph, const Call& call) {
  try {
    call();
  } catch (...) {
    if (!graph.has_ended()) end_allocations(graph);  // CUDAGraph does it afterwards
    SharedPool::get().abandon();
    throw;
  }
}

}  // namespace

void* make_graph() { return new Graph(); }

// Other threads – those of the loader – may allocate meanwhile.
void begin_graph(void* graph) {
  c10::cuda::device_synchronize();
  auto& of = graph_of(graph);
  recording(of, [&] { of.capture_begin(of.pool, cudaStreamCaptureModeThreadLocal); });
}

void end_graph(void* graph) {
  auto& of = graph_of(graph);
  recording(of, [&] { of.capture_end(); });
}

void replay_graph(void* graph) { graph_of(graph).replay(); }

void delete_graph(void* graph) { delete static_cast<Graph*>(graph); }

}  // namespace mmkd::cuda
