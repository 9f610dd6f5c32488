#pragma once
#include <cstdint>

#include "mmkd/kernels/element.h"

// Attention of one head over one sequence, forward and backward, without a mask: softmax(QKᵀ·scale)V. Every product is
// accumulated in float32. For bfloat16 the probabilities and their gradients are rounded to bfloat16 before they enter
// a product, as PyTorch's flash attention does. For CPUs with the instructions that element.h names.
namespace mmkd::kernels {

/// Rows of one head: row i begins at `data` + i · `stride` elements.
struct ConstRows {
  const void* data;
  std::int64_t stride;
};
struct Rows {
  void* data;
  std::int64_t stride;
};

struct HeadShape {
  std::int64_t queries, keys;  ///< both at least 1
  std::int64_t width;          ///< d, a multiple of 16
  float scale;                 ///< of the scores, 1/√d
};

struct HeadInput {
  ConstRows query, key, value;
};

/// Bytes of scratch memory, aligned to 64, that either function needs.
std::int64_t attention_scratch_bytes(const HeadShape& shape);

/// `log_sums` [queries]: the logarithm of each softmax's denominator, which backward needs.
void attention_forward(Element element, const HeadShape& shape, const HeadInput& input, Rows output, float* log_sums,
                       void* scratch);

struct HeadGradients {
  Rows query, key, value;
};
void attention_backward(Element element, const HeadShape& shape, const HeadInput& input, ConstRows output,
                        ConstRows output_gradient, const float* log_sums, const HeadGradients& gradients,
                        void* scratch);

}  // namespace mmkd::kernels
