#pragma once

namespace mmkd::cuda {

// at::cuda::CUDAGraph behind a pointer; all throw c10::Error.
void* make_graph();
void begin_graph(void* graph);
void end_graph(void* graph);
void replay_graph(void* graph);
void delete_graph(void* graph);

}  // namespace mmkd::cuda
