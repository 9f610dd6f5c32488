#include "attention_dots.h"
#include "attention_tiles.h"
#include "kernel_table.h"
#include "norm_body.h"

namespace mmkd::kernels {

#ifdef MMKD_AVX512
namespace {

using Float32Dots = Dots<Float32>;
using Bfloat16Dots = Dots<Bfloat16>;

const KernelTable kTable{
    .attention_forward =
        [](Element element, const HeadShape& shape, const HeadInput& input, Rows output, float* log_sums,
           void* scratch) {
          if (element == Element::float32) return forward<Float32Dots>(shape, input, output, log_sums, scratch);
          if (tiles_serve(shape)) return attention_tiles_forward(shape, input, output, log_sums, scratch);
          forward<Bfloat16Dots>(shape, input, output, log_sums, scratch);
        },
    .attention_backward =
        [](Element element, const HeadShape& shape, const HeadInput& input, ConstRows output, ConstRows up,
           const float* log_sums, const HeadGradients& gradients, void* scratch) {
          if (element == Element::float32)
            return backward<Float32Dots>(shape, input, output, up, log_sums, gradients, scratch);
          if (tiles_serve(shape))
            return attention_tiles_backward(shape, input, output, up, log_sums, gradients, scratch);
          backward<Bfloat16Dots>(shape, input, output, up, log_sums, gradients, scratch);
        },
    .residual_norm_forward = &vectors::residual_norm_forward,
    .residual_norm_backward = &vectors::residual_norm_backward,
    .gelu_forward =
        [](Element element, const void* x, void* out, std::int64_t count) {
          element == Element::float32
              ? gelu<Float32>(static_cast<const float*>(x), static_cast<float*>(out), count)
              : gelu<Bfloat16>(static_cast<const std::uint16_t*>(x), static_cast<std::uint16_t*>(out), count);
        },
    .gelu_backward =
        [](Element element, const void* x, const void* up, void* gradient, void* out, std::int64_t count) {
          element == Element::float32
              ? gelu_gradient<Float32>(static_cast<const float*>(x), static_cast<const float*>(up),
                                       static_cast<float*>(gradient), static_cast<float*>(out), count)
              : gelu_gradient<Bfloat16>(static_cast<const std::uint16_t*>(x), static_cast<const std::uint16_t*>(up),
                                        static_cast<std::uint16_t*>(gradient), static_cast<std::uint16_t*>(out), count);
        },
    .column_sums = &vectors::column_sums};

}  // namespace

const KernelTable* const avx512_kernels = &kTable;
#else
const KernelTable* const avx512_kernels = nullptr;
#endif

}  // namespace mmkd::kernels
