#pragma once
#include "mmkd/kernels/attention.h"

// The attention of bfloat16 on CPUs with AMX, whose instructions multiply tiles of 16 rows of 64 bytes: several times
// what vectors do. Numbers are rounded at the same places.
namespace mmkd::kernels {

/// Whether this machine has them, the system lets this process use them, and they fit the head.
bool tiles_serve(const HeadShape& shape);

void attention_tiles_forward(const HeadShape& shape, const HeadInput& input, Rows output, float* log_sums,
                             void* scratch);
void attention_tiles_backward(const HeadShape& shape, const HeadInput& input, ConstRows output,
                              ConstRows output_gradient, const float* log_sums, const HeadGradients& gradients,
                              void* scratch);

}  // namespace mmkd::kernels
