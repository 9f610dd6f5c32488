#include "graph.h"

#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDAFunctions.h>

namespace mmkd::cuda {
namespace {

auto shared_pool() {
  static const auto pool = at::cuda::graph_pool_handle();
  return pool;
}

}  // namespace

void* make_graph() { return new at::cuda::CUDAGraph(); }

// Other threads – those of the loader – may allocate meanwhile.
void begin_graph(void* graph) {
  c10::cuda::device_synchronize();
  static_cast<at::cuda::CUDAGraph*>(graph)->capture_begin(shared_pool(), cudaStreamCaptureModeThreadLocal);
}

void end_graph(void* graph) { static_cast<at::cuda::CUDAGraph*>(graph)->capture_end(); }

void replay_graph(void* graph) { static_cast<at::cuda::CUDAGraph*>(graph)->replay(); }

void delete_graph(void* graph) { delete static_cast<at::cuda::CUDAGraph*>(graph); }

}  // namespace mmkd::cuda
