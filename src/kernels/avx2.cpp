#include "attention_dots.h"
#include "kernel_table.h"
#include "norm_body.h"

namespace mmkd::kernels {

#ifdef MMKD_AVX2
namespace {

const KernelTable kTable{
    .attention_forward = [](Element /*float32*/, const HeadShape& shape, const HeadInput& input, Rows output,
                            float* log_sums,
                            void* scratch) { forward<Dots<Float32>>(shape, input, output, log_sums, scratch); },
    .attention_backward =
        [](Element /*float32*/, const HeadShape& shape, const HeadInput& input, ConstRows output, ConstRows up,
           const float* log_sums, const HeadGradients& gradients,
           void* scratch) { backward<Dots<Float32>>(shape, input, output, up, log_sums, gradients, scratch); },
    .residual_norm_forward = &vectors::residual_norm_forward,
    .residual_norm_backward = &vectors::residual_norm_backward,
    .gelu_forward =
        [](Element /*float32*/, const void* x, void* out, std::int64_t count) {
          gelu<Float32>(static_cast<const float*>(x), static_cast<float*>(out), count);
        },
    .gelu_backward =
        [](Element /*float32*/, const void* x, const void* up, void* gradient, void* out, std::int64_t count) {
          gelu_gradient<Float32>(static_cast<const float*>(x), static_cast<const float*>(up),
                                 static_cast<float*>(gradient), static_cast<float*>(out), count);
        },
    .column_sums = nullptr};

}  // namespace

const KernelTable* const avx2_kernels = &kTable;
#else
const KernelTable* const avx2_kernels = nullptr;
#endif

}  // namespace mmkd::kernels
