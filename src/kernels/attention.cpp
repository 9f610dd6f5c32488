#include "attention_body.h"
#include "attention_tiles.h"

namespace mmkd::kernels {

#ifdef MMKD_AVX512
namespace {

/// Products by multiplying a word of A, spread over a vector, with 16 words of B.
template <class E>
struct Dots : E {
  static constexpr std::int64_t kBlockRows = 24, kUnit = kLanes, kRowUnit = 1, kSummed = E::kPerWord;
};

/// C [M, 16 V] (+)= A [M, K words] B [K words, 16 V]
template <class E, int M, int V>
void multiply_block(const LeftSide& a, const RightSide& b, std::int64_t steps, float* c, std::int64_t c_row, bool add) {
  __m512 sums[M][V];
  for (int m = 0; m < M; ++m) {
    for (int v = 0; v < V; ++v) sums[m][v] = add ? _mm512_loadu_ps(c + m * c_row + v * kLanes) : _mm512_setzero_ps();
  }
  const Word* a_word = a.data;
  const Word* b_word = b.data;
  for (std::int64_t k = 0; k < steps; ++k) {
    __m512i columns[V];
    for (int v = 0; v < V; ++v) columns[v] = _mm512_loadu_si512(b_word + v * kLanes);
    for (int m = 0; m < M; ++m) {
      const __m512i spread = _mm512_set1_epi32(a_word[m * a.row]);
      for (int v = 0; v < V; ++v) sums[m][v] = E::multiply_add(spread, columns[v], sums[m][v]);
    }
    a_word += a.step;
    b_word += b.row;
  }
  for (int m = 0; m < M; ++m) {
    for (int v = 0; v < V; ++v) _mm512_storeu_ps(c + m * c_row + v * kLanes, sums[m][v]);
  }
}

constexpr int kRows = 6, kVectors = 4;  // 24 sums, 4 columns and a spread word: 29 of 32 registers

template <class E, int V>
void multiply_columns(std::int64_t rows, LeftSide a, const RightSide& b, std::int64_t steps, float* c,
                      std::int64_t c_row, bool add) {
  for (; rows >= kRows; rows -= kRows) {
    multiply_block<E, kRows, V>(a, b, steps, c, c_row, add);
    a.data += kRows * a.row;
    c += kRows * c_row;
  }
  switch (rows) {
    case 5:
      return multiply_block<E, 5, V>(a, b, steps, c, c_row, add);
    case 4:
      return multiply_block<E, 4, V>(a, b, steps, c, c_row, add);
    case 3:
      return multiply_block<E, 3, V>(a, b, steps, c, c_row, add);
    case 2:
      return multiply_block<E, 2, V>(a, b, steps, c, c_row, add);
    case 1:
      return multiply_block<E, 1, V>(a, b, steps, c, c_row, add);
    default:
      return;
  }
}

template <class E>
void product(Dots<E> /*type*/, std::int64_t rows, std::int64_t vectors, std::int64_t steps, const LeftSide& a,
             RightSide b, float* c, std::int64_t c_row, bool add) {
  // Blocks of columns of nearly the same width: one narrow block at the end would wait for its few sums.
  for (std::int64_t blocks = (vectors + kVectors - 1) / kVectors; blocks > 0; --blocks) {
    const std::int64_t width = (vectors + blocks - 1) / blocks;
    switch (width) {
      case 4:
        multiply_columns<E, 4>(rows, a, b, steps, c, c_row, add);
        break;
      case 3:
        multiply_columns<E, 3>(rows, a, b, steps, c, c_row, add);
        break;
      case 2:
        multiply_columns<E, 2>(rows, a, b, steps, c, c_row, add);
        break;
      default:
        multiply_columns<E, 1>(rows, a, b, steps, c, c_row, add);
        break;
    }
    b.data += width * kLanes;
    c += width * kLanes;
    vectors -= width;
  }
}

/// Rows 2 i and 2 i + 1 of X as words: [rows / 2, columns]. Float32 needs no other form.
LeftSide left_columns(Dots<Float32> /*type*/, const float* x, std::int64_t /*rows*/, std::int64_t columns,
                      Word* /*memory*/) {
  return {reinterpret_cast<const Word*>(x), 1, columns};
}
LeftSide left_columns(Dots<Bfloat16> /*type*/, const std::uint16_t* x, std::int64_t rows, std::int64_t columns,
                      Word* memory) {
  const RightSide pairs = right_rows(Bfloat16{}, {x, columns}, rows, (rows + 1) / 2, columns, memory);
  return {pairs.data, 1, columns};
}

using Float32Dots = Dots<Float32>;
using Bfloat16Dots = Dots<Bfloat16>;

}  // namespace

std::int64_t attention_scratch_bytes(const HeadShape& shape) {
  // of backward, in words, for the way of multiplying that takes the most
  constexpr std::int64_t kMostRows = 32, kMostUnit = 32;
  const std::int64_t longest = round_up(shape.queries > shape.keys ? shape.queries : shape.keys, kMostUnit);
  const auto word = static_cast<std::int64_t>(sizeof(Word));
  const std::int64_t packed = 5 * longest * shape.width + longest * shape.width + 2 * longest;
  const std::int64_t block = 5 * kMostRows * longest + 2 * kMostRows * shape.width;
  constexpr std::int64_t kRounding = 16 * std::int64_t{64};  // each part begins at a multiple of 64
  return (packed + block) * word + kRounding;
}

void attention_forward(Element element, const HeadShape& shape, const HeadInput& input, Rows output, float* log_sums,
                       void* scratch) {
  if (element == Element::float32) return forward<Float32Dots>(shape, input, output, log_sums, scratch);
  if (tiles_serve(shape)) return attention_tiles_forward(shape, input, output, log_sums, scratch);
  forward<Bfloat16Dots>(shape, input, output, log_sums, scratch);
}

void attention_backward(Element element, const HeadShape& shape, const HeadInput& input, ConstRows output,
                        ConstRows output_gradient, const float* log_sums, const HeadGradients& gradients,
                        void* scratch) {
  if (element == Element::float32)
    return backward<Float32Dots>(shape, input, output, output_gradient, log_sums, gradients, scratch);
  if (tiles_serve(shape))
    return attention_tiles_backward(shape, input, output, output_gradient, log_sums, gradients, scratch);
  backward<Bfloat16Dots>(shape, input, output, output_gradient, log_sums, gradients, scratch);
}

#else

std::int64_t attention_scratch_bytes(const HeadShape& /*shape*/) { return 0; }
void attention_forward(Element, const HeadShape&, const HeadInput&, Rows, float*, void*) {}
void attention_backward(Element, const HeadShape&, const HeadInput&, ConstRows, ConstRows, const float*,
                        const HeadGradients&, void*) {}

#endif

}  // namespace mmkd::kernels
