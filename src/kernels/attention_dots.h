#pragma once
#include "attention_body.h"

// The products of attention by vectors.
#ifdef MMKD_VECTORS
namespace mmkd::kernels {
namespace {

/// Products by multiplying a word of A, spread over a vector, with 16 words of B.
template <class E>
struct Dots : E {
  static constexpr std::int64_t kBlockRows = 24, kUnit = kLanes, kRowUnit = 1, kSummed = E::kPerWord;
};

/// C [M, 16 V] (+)= A [M, K words] B [K words, 16 V]
template <class E, int M, int V>
void multiply_block(const LeftSide& a, const RightSide& b, std::int64_t steps, float* c, std::int64_t c_row, bool add) {
  Vector sums[M][V];
  for (int m = 0; m < M; ++m) {
    for (int v = 0; v < V; ++v) sums[m][v] = add ? load_floats(c + m * c_row + v * kLanes) : zeros();
  }
  const Word* a_word = a.data;
  const Word* b_word = b.data;
  for (std::int64_t k = 0; k < steps; ++k) {
    Words columns[V];
    for (int v = 0; v < V; ++v) columns[v] = load_words(b_word + v * kLanes);
    for (int m = 0; m < M; ++m) {
      const Words word = spread_word(a_word[m * a.row]);
      for (int v = 0; v < V; ++v) sums[m][v] = E::multiply_add(word, columns[v], sums[m][v]);
    }
    a_word += a.step;
    b_word += b.row;
  }
  for (int m = 0; m < M; ++m) {
    for (int v = 0; v < V; ++v) store_floats(c + m * c_row + v * kLanes, sums[m][v]);
  }
}

#ifdef MMKD_AVX512
constexpr int kRows = 6, kVectors = 4;  // 24 sums, 4 columns and a spread word: 29 of 32 registers
#else
constexpr int kRows = 6, kVectors = 1;  // 12 sums, 2 halves of columns and a spread word: 15 of 16 registers
#endif

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

/// multiply_columns() for `width` vectors, at most V.
template <class E, int V>
void columns_of(std::int64_t width, std::int64_t rows, const LeftSide& a, const RightSide& b, std::int64_t steps,
                float* c, std::int64_t c_row, bool add) {
  if constexpr (V > 1) {
    if (width < V) return columns_of<E, V - 1>(width, rows, a, b, steps, c, c_row, add);
  }
  multiply_columns<E, V>(rows, a, b, steps, c, c_row, add);
}

template <class E>
void product(Dots<E> /*type*/, std::int64_t rows, std::int64_t vectors, std::int64_t steps, const LeftSide& a,
             RightSide b, float* c, std::int64_t c_row, bool add) {
  // Blocks of columns of nearly the same width: one narrow block at the end would wait for its few sums.
  for (std::int64_t blocks = (vectors + kVectors - 1) / kVectors; blocks > 0; --blocks) {
    const std::int64_t width = (vectors + blocks - 1) / blocks;
    columns_of<E, kVectors>(width, rows, a, b, steps, c, c_row, add);
    b.data += width * kLanes;
    c += width * kLanes;
    vectors -= width;
  }
}

/// Rows 2 i and 2 i + 1 of X as words: [rows / 2, columns]. Float32 needs no other form.
inline LeftSide left_columns(Dots<Float32> /*type*/, const float* x, std::int64_t /*rows*/, std::int64_t columns,
                             Word* /*memory*/) {
  return {reinterpret_cast<const Word*>(x), 1, columns};
}
#ifdef MMKD_AVX512
inline LeftSide left_columns(Dots<Bfloat16> /*type*/, const std::uint16_t* x, std::int64_t rows, std::int64_t columns,
                             Word* memory) {
  const RightSide pairs = right_rows(Bfloat16{}, {x, columns}, rows, (rows + 1) / 2, columns, memory);
  return {pairs.data, 1, columns};
}
#endif

}  // namespace
}  // namespace mmkd::kernels
#endif
