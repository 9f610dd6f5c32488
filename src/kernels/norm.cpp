#include "mmkd/kernels/norm.h"

#include "kernel_table.h"

namespace mmkd::kernels {

void residual_norm_forward(const NormParameters& parameters, std::int64_t rows, const float* residual,
                           ConstMatrix branch, float* sum, Matrix normed, Matrix normed_too, float* mean, float* rstd) {
  kernel_table().residual_norm_forward(parameters, rows, residual, branch, sum, normed, normed_too, mean, rstd);
}

void residual_norm_backward(const NormParameters& parameters, std::int64_t rows, const NormStatistics& statistics,
                            const NormGradients& gradients, float* residual, Matrix branch, float* weight,
                            float* bias) {
  kernel_table().residual_norm_backward(parameters, rows, statistics, gradients, residual, branch, weight, bias);
}

void gelu_forward(Element element, const void* x, void* out, std::int64_t count) {
  kernel_table().gelu_forward(element, x, out, count);
}

void gelu_backward(Element element, const void* x, const void* out_gradient, void* gradient, void* out,
                   std::int64_t count) {
  kernel_table().gelu_backward(element, x, out_gradient, gradient, out, count);
}

void column_sums(const std::uint16_t* x, std::int64_t stride, std::int64_t rows, std::int64_t columns, float* sums) {
  kernel_table().column_sums(x, stride, rows, columns, sums);
}

}  // namespace mmkd::kernels
