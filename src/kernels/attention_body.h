#pragma once
#include "mmkd/kernels/attention.h"
#include "vectors.h"

// The attention of one head, whatever multiplies its matrices: attention_dots.h does it with vectors,
// attention_tiles.cpp with tiles.
#ifdef MMKD_VECTORS
namespace mmkd::kernels {
namespace {

// Matrices are streams of 32-bit words: a float32, or two bfloat16 that are neighbours along the dimension that a
// product sums over. So one loop serves both: it takes a word of A, spreads it over a vector, and multiplies it with 16
// words of B, one for each column.
using Word = std::int32_t;

// The templates take a type T, one of Float32 and Bfloat16 with what the way of multiplying asks for:
//   kBlockRows  rows of scores that are worked on at once, so that they stay in a near cache
//   kUnit       columns, which are keys or queries, are filled up with zeros to a multiple of it
//   kRowUnit    rows that are multiplied at once: those of A and C must have memory up to a multiple of it
//   kSummed     elements along the dimension that a product sums over come in multiples of it
//   product(T{}, rows, vectors, steps, a, b, c, c_row, add): C [rows, 16 vectors] (+)= A [rows, steps words] B, float32
//   left_columns(T{}, x, rows, columns, memory): the transpose of X [rows, columns], rows at most kBlockRows, as a left
//     side; memory of kBlockRows words for each column

constexpr std::int64_t round_up(std::int64_t n, std::int64_t unit) { return (n + unit - 1) / unit * unit; }

/// Word (m, k) of A stands at data[m · row + k · step].
struct LeftSide {
  const Word* data;
  std::int64_t row, step;
};
/// Word (k, n) of B stands at data[k · row + n].
struct RightSide {
  const Word* data;
  std::int64_t row;
};

template <class T>
LeftSide left_rows(ConstRows rows, std::int64_t first) {
  const auto* data = static_cast<const typename T::Value*>(rows.data) + first * rows.stride;
  return {reinterpret_cast<const Word*>(data), rows.stride / T::kPerWord, 1};
}

/// `count` rows of `width` that end where memory may end: copied, where rows behind them would be read.
template <class T>
LeftSide left_input(ConstRows rows, std::int64_t first, std::int64_t count, std::int64_t width, Word* memory) {
  const LeftSide there = left_rows<T>(rows, first);
  if (count % T::kRowUnit == 0) return there;
  const std::int64_t words = width / T::kPerWord;
  for (std::int64_t i = 0; i < round_up(count, T::kRowUnit); ++i) {
    for (std::int64_t w = 0; w < words; ++w) memory[i * words + w] = i < count ? there.data[i * there.row + w] : 0;
  }
  return {memory, words, 1};
}

/// Xᵀ of X [count, width] as a right side: [width words, round_up(count, kUnit)], zeros behind `count`.
template <class T>
RightSide transposed(ConstRows rows, std::int64_t count, std::int64_t width, Word* buffer) {
  const std::int64_t padded = round_up(count, T::kUnit), words = width / T::kPerWord,
                     from_row = rows.stride / T::kPerWord;
  const auto* from = static_cast<const Word*>(rows.data);
  for (std::int64_t i = 0; i < padded; i += kLanes) {
    std::int64_t w = 0;
    for (; w + kLanes <= words; w += kLanes)
      transpose_tile(from + i * from_row + w, from_row, count - i, buffer + w * padded + i, padded);
    for (; w < words; ++w) {  // half a tile, for 16 bfloat16
      for (std::int64_t j = 0; j < kLanes; ++j)
        buffer[w * padded + i + j] = i + j < count ? from[(i + j) * from_row + w] : 0;
    }
  }
  return {buffer, padded};
}

/// Words along a dimension of `count` elements that a product sums over.
template <class T>
constexpr std::int64_t steps_of(std::int64_t count) {
  return round_up(count, T::kSummed) / T::kPerWord;
}

inline RightSide right_rows(Float32 /*type*/, ConstRows rows, std::int64_t /*count*/, std::int64_t /*steps*/,
                            std::int64_t /*width*/, Word* /*buffer*/) {
  return {static_cast<const Word*>(rows.data), rows.stride};
}

#ifdef MMKD_AVX512
/// Rows a and b of `width` bfloat16, element by element in turn: `width` words. b null: zeros.
inline void interleave(const std::uint16_t* a, const std::uint16_t* b, std::int64_t width, Word* to) {
  for (std::int64_t i = 0; i < width; i += kLanes) {
    const auto wide = [&](const std::uint16_t* from) {
      return from == nullptr ? _mm512_setzero_si512()
                             : _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + i)));
    };
    _mm512_storeu_si512(to + i, _mm512_or_si512(wide(a), _mm512_slli_epi32(wide(b), 16)));
  }
}

/// X [count, width] as a right side: [steps words, width], zeros behind `count`.
inline RightSide right_rows(Bfloat16 /*type*/, ConstRows rows, std::int64_t count, std::int64_t steps,
                            std::int64_t width, Word* buffer) {
  const auto* from = static_cast<const std::uint16_t*>(rows.data);
  const auto row = [&](std::int64_t i) { return i < count ? from + i * rows.stride : nullptr; };
  for (std::int64_t i = 0; i < steps; ++i) interleave(row(2 * i), row(2 * i + 1), width, buffer + i * width);
  return {buffer, width};
}

#endif

/// The same for one head's rows of T.
template <class T>
RightSide right_side(ConstRows rows, std::int64_t count, std::int64_t width, Word* buffer) {
  return right_rows(T{}, rows, count, steps_of<T>(count), width, buffer);
}

class Scratch {
 public:
  explicit Scratch(void* memory) : at_(static_cast<char*>(memory)) {}
  template <class V>
  V* take(std::int64_t count) {
    auto* result = reinterpret_cast<V*>(at_);
    at_ += round_up(count * static_cast<std::int64_t>(sizeof(V)), 64);
    return result;
  }

 private:
  char* at_;
};

/// Scores of one row to probabilities that are not divided by their sum yet, zeros from `keys` to `columns`.
template <class T>
float softmax_row(const float* scores, std::int64_t keys, std::int64_t columns, float scale,
                  typename T::Value* probabilities, float& log_sum) {
  const std::int64_t whole = keys / kLanes * kLanes;  // the last key and zeros share a vector behind it
  const Mask rest = lanes_below(keys - whole);
  Vector largest = load_floats(scores + whole, rest);
  largest = choose(rest, largest, spread(-__builtin_inff()));
  for (std::int64_t j = 0; j < whole; j += kLanes) largest = larger(largest, load_floats(scores + j));
  const float top = largest_of(largest) * scale;
  const Vector factor = spread(scale), shift = spread(top);
  Vector sums = zeros();
  for (std::int64_t j = 0; j < whole; j += kLanes) {
    const Vector e = T::exponential(multiply_subtract(load_floats(scores + j), factor, shift));
    sums = add(sums, e);
    T::store(probabilities + j, e);
  }
  if (whole < columns) {
    const Vector x = multiply_subtract(load_floats(scores + whole, rest), factor, shift);
    const Vector e = only(rest, T::exponential(x));
    sums = add(sums, e);
    T::store(probabilities + whole, e);
  }
  for (std::int64_t j = whole + kLanes; j < columns; j += kLanes) T::store(probabilities + j, zeros());
  const float sum = sum_of(sums);
  log_sum = top + __builtin_logf(sum);
  return 1.0F / sum;
}

template <class T>
void store_rows(const float* from, std::int64_t rows, std::int64_t width, const float* factors, Rows to,
                std::int64_t first) {
  for (std::int64_t i = 0; i < rows; ++i) {
    auto* out = static_cast<typename T::Value*>(to.data) + (first + i) * to.stride;
    const Vector factor = spread(factors == nullptr ? 1.0F : factors[i]);
    for (std::int64_t j = 0; j < width; j += kLanes)
      T::store(out + j, multiply(load_floats(from + i * width + j), factor));
  }
}

template <class T>
void forward(const HeadShape& shape, const HeadInput& input, Rows output, float* log_sums, void* memory) {
  Scratch scratch(memory);
  const std::int64_t d = shape.width, columns = round_up(shape.keys, T::kUnit);
  const RightSide keys = transposed<T>(input.key, shape.keys, d, scratch.take<Word>(d * columns));
  const RightSide values = right_side<T>(input.value, shape.keys, d, scratch.take<Word>(columns * d));
  auto* scores = scratch.take<float>(T::kBlockRows * columns);
  auto* probabilities = scratch.take<typename T::Value>(T::kBlockRows * columns);
  auto* sums = scratch.take<float>(T::kBlockRows * d);
  auto* tail = scratch.take<Word>(T::kBlockRows * d);
  for (std::int64_t first = 0; first < shape.queries; first += T::kBlockRows) {
    const std::int64_t rows = shape.queries - first < T::kBlockRows ? shape.queries - first : T::kBlockRows;
    product(T{}, rows, columns / kLanes, d / T::kPerWord, left_input<T>(input.query, first, rows, d, tail), keys,
            scores, columns, false);
    float factors[T::kBlockRows];
    for (std::int64_t i = 0; i < rows; ++i) {
      factors[i] = softmax_row<T>(scores + i * columns, shape.keys, columns, shape.scale, probabilities + i * columns,
                                  log_sums[first + i]);
    }
    product(T{}, rows, d / kLanes, steps_of<T>(shape.keys), left_rows<T>({probabilities, columns}, 0), values, sums, d,
            false);
    store_rows<T>(sums, rows, d, factors, output, first);
  }
}

template <class T>
float dot(const typename T::Value* a, const typename T::Value* b, std::int64_t width) {
  Vector sum = zeros();
  for (std::int64_t j = 0; j < width; j += kLanes) sum = multiply_add(T::load(a + j), T::load(b + j), sum);
  return sum_of(sum);
}

// Everything is computed transposed, keys as rows: then a block of rows completes the gradients of its keys and values,
// and what belongs to a query (its log-sum, the mean of its gradient) is a vector over the columns.
template <class T>
void backward(const HeadShape& shape, const HeadInput& input, ConstRows output, ConstRows gradient,
              const float* log_sums, const HeadGradients& to, void* memory) {
  using Value = typename T::Value;
  Scratch scratch(memory);
  const std::int64_t d = shape.width, columns = round_up(shape.queries, T::kUnit);
  const std::int64_t inner = d / T::kPerWord, outer = steps_of<T>(shape.queries);
  const auto buffer = [&](std::int64_t rows) { return scratch.take<Word>(round_up(rows, T::kUnit) * d); };
  const RightSide queries_t = transposed<T>(input.query, shape.queries, d, buffer(shape.queries));
  const RightSide gradient_t = transposed<T>(gradient, shape.queries, d, buffer(shape.queries));
  const RightSide queries = right_side<T>(input.query, shape.queries, d, buffer(shape.queries));
  const RightSide gradients = right_side<T>(gradient, shape.queries, d, buffer(shape.queries));
  const RightSide keys = right_side<T>(input.key, shape.keys, d, buffer(shape.keys));
  auto* query_sums = scratch.take<float>(round_up(shape.queries, T::kRowUnit) * d);
  auto* logs = scratch.take<float>(columns);
  auto* means = scratch.take<float>(columns);
  auto* scores = scratch.take<float>(T::kBlockRows * columns);
  auto* slopes = scratch.take<float>(T::kBlockRows * columns);
  auto* probabilities = scratch.take<Value>(T::kBlockRows * columns);
  auto* score_gradients = scratch.take<Value>(T::kBlockRows * columns);
  auto* by_column = scratch.take<Word>(T::kBlockRows * columns);
  auto* sums = scratch.take<float>(T::kBlockRows * d);
  auto* tail = scratch.take<Word>(T::kBlockRows * d);
  for (std::int64_t i = 0; i < columns; ++i) {
    const bool real = i < shape.queries;
    logs[i] = real ? log_sums[i] : __builtin_inff();  // probability 0
    means[i] = real ? dot<T>(static_cast<const Value*>(output.data) + i * output.stride,
                             static_cast<const Value*>(gradient.data) + i * gradient.stride, d)
                    : 0.0F;
  }
  const Vector scale = spread(shape.scale);
  for (std::int64_t first = 0; first < shape.keys; first += T::kBlockRows) {
    const std::int64_t rows = shape.keys - first < T::kBlockRows ? shape.keys - first : T::kBlockRows;
    product(T{}, rows, columns / kLanes, inner, left_input<T>(input.key, first, rows, d, tail), queries_t, scores,
            columns, false);
    product(T{}, rows, columns / kLanes, inner, left_input<T>(input.value, first, rows, d, tail), gradient_t, slopes,
            columns, false);
    for (std::int64_t i = 0; i < rows; ++i) {
      for (std::int64_t j = 0; j < columns; j += kLanes) {
        const std::int64_t at = i * columns + j;
        const Vector p = T::exponential(multiply_subtract(load_floats(scores + at), scale, load_floats(logs + j)));
        const Vector slope = subtract(load_floats(slopes + at), load_floats(means + j));
        T::store(probabilities + at, p);
        T::store(score_gradients + at, multiply(multiply(p, slope), scale));
      }
    }
    product(T{}, rows, d / kLanes, outer, left_rows<T>({probabilities, columns}, 0), gradients, sums, d, false);
    store_rows<T>(sums, rows, d, nullptr, to.value, first);
    product(T{}, rows, d / kLanes, outer, left_rows<T>({score_gradients, columns}, 0), queries, sums, d, false);
    store_rows<T>(sums, rows, d, nullptr, to.key, first);
    const LeftSide by_query = left_columns(T{}, score_gradients, rows, columns, by_column);
    product(T{}, shape.queries, d / kLanes, steps_of<T>(rows), by_query,
            {keys.data + first / T::kPerWord * keys.row, keys.row}, query_sums, d, /*add=*/first > 0);
  }
  store_rows<T>(query_sums, shape.queries, d, nullptr, to.query, 0);
}

}  // namespace
}  // namespace mmkd::kernels
#endif
