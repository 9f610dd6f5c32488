#include "mmkd/kernels/attention.h"

#include "kernel_table.h"

namespace mmkd::kernels {

std::int64_t attention_scratch_bytes(const HeadShape& shape) {
  // of backward, in words of 32 bits, for the way of multiplying that takes the most
  constexpr std::int64_t kMostRows = 32, kMostUnit = 32, kWord = 4;
  const std::int64_t most = shape.queries > shape.keys ? shape.queries : shape.keys;
  const std::int64_t longest = (most + kMostUnit - 1) / kMostUnit * kMostUnit;
  const std::int64_t packed = 5 * longest * shape.width + longest * shape.width + 2 * longest;
  const std::int64_t block = 5 * kMostRows * longest + 2 * kMostRows * shape.width;
  constexpr std::int64_t kRounding = 16 * std::int64_t{64};  // each part begins at a multiple of 64
  return (packed + block) * kWord + kRounding;
}

void attention_forward(Element element, const HeadShape& shape, const HeadInput& input, Rows output, float* log_sums,
                       void* scratch) {
  kernel_table().attention_forward(element, shape, input, output, log_sums, scratch);
}

void attention_backward(Element element, const HeadShape& shape, const HeadInput& input, ConstRows output,
                        ConstRows output_gradient, const float* log_sums, const HeadGradients& gradients,
                        void* scratch) {
  kernel_table().attention_backward(element, shape, input, output, output_gradient, log_sums, gradients, scratch);
}

}  // namespace mmkd::kernels
