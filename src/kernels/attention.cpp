#include "mmkd/kernels/attention.h"

#include "avx512.h"

namespace mmkd::kernels {

#ifdef MMKD_AVX512
namespace {

// Matrices are streams of 32-bit words: a float32, or two bfloat16 that are neighbours along the dimension that a
// product sums over. So one loop serves both: it takes a word of A, spreads it over a vector, and multiplies it with 16
// words of B, one for each column.
using Word = std::int32_t;
constexpr std::int64_t kBlockRows = 24;  // rows of scores that are worked on at once, so that they stay in the L1 cache

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

/// C [M, 16 V] (+)= A [M, K words] B [K words, 16 V]
template <class T, int M, int V>
void multiply_tile(const LeftSide& a, const RightSide& b, std::int64_t steps, float* c, std::int64_t c_row, bool add) {
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
      for (int v = 0; v < V; ++v) sums[m][v] = T::multiply_add(spread, columns[v], sums[m][v]);
    }
    a_word += a.step;
    b_word += b.row;
  }
  for (int m = 0; m < M; ++m) {
    for (int v = 0; v < V; ++v) _mm512_storeu_ps(c + m * c_row + v * kLanes, sums[m][v]);
  }
}

constexpr int kTileRows = 6, kTileVectors = 4;  // 24 sums, 4 columns and a spread word: 29 of 32 registers

template <class T, int V>
void multiply_columns(std::int64_t rows, LeftSide a, const RightSide& b, std::int64_t steps, float* c,
                      std::int64_t c_row, bool add) {
  for (; rows >= kTileRows; rows -= kTileRows) {
    multiply_tile<T, kTileRows, V>(a, b, steps, c, c_row, add);
    a.data += kTileRows * a.row;
    c += kTileRows * c_row;
  }
  switch (rows) {
    case 5:
      return multiply_tile<T, 5, V>(a, b, steps, c, c_row, add);
    case 4:
      return multiply_tile<T, 4, V>(a, b, steps, c, c_row, add);
    case 3:
      return multiply_tile<T, 3, V>(a, b, steps, c, c_row, add);
    case 2:
      return multiply_tile<T, 2, V>(a, b, steps, c, c_row, add);
    case 1:
      return multiply_tile<T, 1, V>(a, b, steps, c, c_row, add);
    default:
      return;
  }
}

/// C [rows, 16 vectors] (+)= A B, float32
template <class T>
void multiply(std::int64_t rows, std::int64_t vectors, std::int64_t steps, const LeftSide& a, RightSide b, float* c,
              std::int64_t c_row, bool add = false) {
  // Blocks of columns of nearly the same width: one narrow block at the end would wait for its few sums.
  for (std::int64_t blocks = (vectors + kTileVectors - 1) / kTileVectors; blocks > 0; --blocks) {
    const std::int64_t width = (vectors + blocks - 1) / blocks;
    switch (width) {
      case 4:
        multiply_columns<T, 4>(rows, a, b, steps, c, c_row, add);
        break;
      case 3:
        multiply_columns<T, 3>(rows, a, b, steps, c, c_row, add);
        break;
      case 2:
        multiply_columns<T, 2>(rows, a, b, steps, c, c_row, add);
        break;
      default:
        multiply_columns<T, 1>(rows, a, b, steps, c, c_row, add);
        break;
    }
    b.data += width * kLanes;
    c += width * kLanes;
    vectors -= width;
  }
}

/// Transposes 16 x 16 words; rows behind `rows` count as zeros.
void transpose_tile(const Word* from, std::int64_t from_row, std::int64_t rows, Word* to, std::int64_t to_row) {
  __m512i t[16], u[16];
  for (int i = 0; i < 16; ++i) t[i] = i < rows ? _mm512_loadu_si512(from + i * from_row) : _mm512_setzero_si512();
  for (int i = 0; i < 16; i += 2) {
    u[i] = _mm512_unpacklo_epi32(t[i], t[i + 1]);
    u[i + 1] = _mm512_unpackhi_epi32(t[i], t[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {
    t[i] = _mm512_unpacklo_epi64(u[i], u[i + 2]);
    t[i + 1] = _mm512_unpackhi_epi64(u[i], u[i + 2]);
    t[i + 2] = _mm512_unpacklo_epi64(u[i + 1], u[i + 3]);
    t[i + 3] = _mm512_unpackhi_epi64(u[i + 1], u[i + 3]);
  }
  // t[4 g + j]: of rows 4 g … 4 g + 3, columns j, 4 + j, 8 + j, 12 + j in its quarters
  for (int j = 0; j < 4; ++j) {
    const __m512i a = _mm512_shuffle_i32x4(t[j], t[4 + j], 0x88), b = _mm512_shuffle_i32x4(t[8 + j], t[12 + j], 0x88);
    const __m512i c = _mm512_shuffle_i32x4(t[j], t[4 + j], 0xDD), d = _mm512_shuffle_i32x4(t[8 + j], t[12 + j], 0xDD);
    _mm512_storeu_si512(to + j * to_row, _mm512_shuffle_i32x4(a, b, 0x88));
    _mm512_storeu_si512(to + (8 + j) * to_row, _mm512_shuffle_i32x4(a, b, 0xDD));
    _mm512_storeu_si512(to + (4 + j) * to_row, _mm512_shuffle_i32x4(c, d, 0x88));
    _mm512_storeu_si512(to + (12 + j) * to_row, _mm512_shuffle_i32x4(c, d, 0xDD));
  }
}

template <class T>
LeftSide left_rows(ConstRows rows, std::int64_t first) {
  const auto* data = static_cast<const typename T::Value*>(rows.data) + first * rows.stride;
  return {reinterpret_cast<const Word*>(data), rows.stride / T::kPerWord, 1};
}

/// Xᵀ of X [count, width] as a right side: [width words, round_up(count, 16)], zeros behind `count`.
template <class T>
RightSide transposed(ConstRows rows, std::int64_t count, std::int64_t width, Word* buffer) {
  const std::int64_t padded = round_up(count, kLanes), words = width / T::kPerWord,
                     from_row = rows.stride / T::kPerWord;
  const auto* from = static_cast<const Word*>(rows.data);
  for (std::int64_t i = 0; i < count; i += kLanes) {
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

/// Rows a and b of `width` bfloat16, element by element in turn: `width` words. b null: zeros.
void interleave(const std::uint16_t* a, const std::uint16_t* b, std::int64_t width, Word* to) {
  for (std::int64_t i = 0; i < width; i += kLanes) {
    const auto wide = [&](const std::uint16_t* from) {
      return from == nullptr ? _mm512_setzero_si512()
                             : _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + i)));
    };
    _mm512_storeu_si512(to + i, _mm512_or_si512(wide(a), _mm512_slli_epi32(wide(b), 16)));
  }
}

RightSide right_rows(Float32 /*type*/, ConstRows rows, std::int64_t /*count*/, std::int64_t /*width*/,
                     Word* /*buffer*/) {
  return {static_cast<const Word*>(rows.data), rows.stride};
}

/// X [count, width] as a right side: [count words, width].
RightSide right_rows(Bfloat16 /*type*/, ConstRows rows, std::int64_t count, std::int64_t width, Word* buffer) {
  const auto* from = static_cast<const std::uint16_t*>(rows.data);
  for (std::int64_t i = 0; i < count; i += 2) {
    interleave(from + i * rows.stride, i + 1 < count ? from + (i + 1) * rows.stride : nullptr, width,
               buffer + i / 2 * width);
  }
  return {buffer, width};
}

template <class T>
std::int64_t steps_of(std::int64_t count) {
  return (count + T::kPerWord - 1) / T::kPerWord;
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

__mmask16 lanes_below(std::int64_t count) {
  return count >= kLanes ? static_cast<__mmask16>(0xFFFF) : static_cast<__mmask16>((1U << count) - 1U);
}

/// Scores of one row to probabilities that are not divided by their sum yet, zeros behind `keys`.
template <class T>
float softmax_row(const float* scores, std::int64_t keys, float scale, typename T::Value* probabilities,
                  float& log_sum) {
  __m512 largest = _mm512_set1_ps(-__builtin_inff());
  for (std::int64_t j = 0; j < keys; j += kLanes) {
    const __mmask16 valid = lanes_below(keys - j);
    largest = _mm512_mask_max_ps(largest, valid, largest, _mm512_loadu_ps(scores + j));
  }
  const float top = _mm512_reduce_max_ps(largest) * scale;
  __m512 sums = _mm512_setzero_ps();
  for (std::int64_t j = 0; j < keys; j += kLanes) {
    const __m512 x = _mm512_fmsub_ps(_mm512_loadu_ps(scores + j), _mm512_set1_ps(scale), _mm512_set1_ps(top));
    const __m512 e = _mm512_maskz_mov_ps(lanes_below(keys - j), exponential(x));
    sums = _mm512_add_ps(sums, e);
    T::store(probabilities + j, e);
  }
  const float sum = _mm512_reduce_add_ps(sums);
  log_sum = top + __builtin_logf(sum);
  return 1.0F / sum;
}

template <class T>
void store_rows(const float* from, std::int64_t rows, std::int64_t width, const float* factors, Rows to,
                std::int64_t first) {
  for (std::int64_t i = 0; i < rows; ++i) {
    auto* out = static_cast<typename T::Value*>(to.data) + (first + i) * to.stride;
    const __m512 factor = _mm512_set1_ps(factors == nullptr ? 1.0F : factors[i]);
    for (std::int64_t j = 0; j < width; j += kLanes)
      T::store(out + j, _mm512_mul_ps(_mm512_loadu_ps(from + i * width + j), factor));
  }
}

template <class T>
void forward(const HeadShape& shape, const HeadInput& input, Rows output, float* log_sums, void* memory) {
  Scratch scratch(memory);
  const std::int64_t d = shape.width, columns = round_up(shape.keys, kLanes);
  const RightSide keys = transposed<T>(input.key, shape.keys, d, scratch.take<Word>(d * columns));
  const RightSide values = right_rows(T{}, input.value, shape.keys, d, scratch.take<Word>(columns * d));
  auto* scores = scratch.take<float>(kBlockRows * columns);
  auto* probabilities = scratch.take<typename T::Value>(kBlockRows * columns);
  auto* sums = scratch.take<float>(kBlockRows * d);
  for (std::int64_t first = 0; first < shape.queries; first += kBlockRows) {
    const std::int64_t rows = shape.queries - first < kBlockRows ? shape.queries - first : kBlockRows;
    multiply<T>(rows, columns / kLanes, d / T::kPerWord, left_rows<T>(input.query, first), keys, scores, columns);
    float factors[kBlockRows];
    for (std::int64_t i = 0; i < rows; ++i) {
      factors[i] = softmax_row<T>(scores + i * columns, shape.keys, shape.scale, probabilities + i * columns,
                                  log_sums[first + i]);
    }
    multiply<T>(rows, d / kLanes, steps_of<T>(shape.keys), left_rows<T>({probabilities, columns}, 0), values, sums, d);
    store_rows<T>(sums, rows, d, factors, output, first);
  }
}

/// Rows 2 i and 2 i + 1 of X [rows, columns] as words: [rows / 2, columns]. Float32 needs no other form.
const Word* pairs_of_rows(const float* x, std::int64_t /*rows*/, std::int64_t /*columns*/, Word* /*buffer*/) {
  return reinterpret_cast<const Word*>(x);
}
const Word* pairs_of_rows(const std::uint16_t* x, std::int64_t rows, std::int64_t columns, Word* buffer) {
  for (std::int64_t i = 0; i < rows; i += 2) {
    interleave(x + i * columns, i + 1 < rows ? x + (i + 1) * columns : nullptr, columns, buffer + i / 2 * columns);
  }
  return buffer;
}

template <class T>
float dot(const typename T::Value* a, const typename T::Value* b, std::int64_t width) {
  __m512 sum = _mm512_setzero_ps();
  for (std::int64_t j = 0; j < width; j += kLanes) sum = _mm512_fmadd_ps(T::load(a + j), T::load(b + j), sum);
  return _mm512_reduce_add_ps(sum);
}

// Everything is computed transposed, keys as rows: then a block of rows completes the gradients of its keys and values,
// and what belongs to a query (its log-sum, the mean of its gradient) is a vector over the columns.
template <class T>
void backward(const HeadShape& shape, const HeadInput& input, ConstRows output, ConstRows gradient,
              const float* log_sums, const HeadGradients& to, void* memory) {
  using Value = typename T::Value;
  Scratch scratch(memory);
  const std::int64_t d = shape.width, columns = round_up(shape.queries, kLanes);
  const std::int64_t inner = d / T::kPerWord, outer = steps_of<T>(shape.queries);
  const auto buffer = [&](std::int64_t rows) { return scratch.take<Word>(round_up(rows, kLanes) * d); };
  const RightSide queries_t = transposed<T>(input.query, shape.queries, d, buffer(shape.queries));
  const RightSide gradient_t = transposed<T>(gradient, shape.queries, d, buffer(shape.queries));
  const RightSide queries = right_rows(T{}, input.query, shape.queries, d, buffer(shape.queries));
  const RightSide gradients = right_rows(T{}, gradient, shape.queries, d, buffer(shape.queries));
  const RightSide keys = right_rows(T{}, input.key, shape.keys, d, buffer(shape.keys));
  auto* query_sums = scratch.take<float>(shape.queries * d);
  auto* logs = scratch.take<float>(columns);
  auto* means = scratch.take<float>(columns);
  auto* scores = scratch.take<float>(kBlockRows * columns);
  auto* slopes = scratch.take<float>(kBlockRows * columns);
  auto* probabilities = scratch.take<Value>(kBlockRows * columns);
  auto* score_gradients = scratch.take<Value>(kBlockRows * columns);
  auto* pairs = scratch.take<Word>(kBlockRows * columns);
  auto* sums = scratch.take<float>(kBlockRows * d);
  for (std::int64_t i = 0; i < columns; ++i) {
    const bool real = i < shape.queries;
    logs[i] = real ? log_sums[i] : __builtin_inff();  // probability 0
    means[i] = real ? dot<T>(static_cast<const Value*>(output.data) + i * output.stride,
                             static_cast<const Value*>(gradient.data) + i * gradient.stride, d)
                    : 0.0F;
  }
  const __m512 scale = _mm512_set1_ps(shape.scale);
  for (std::int64_t first = 0; first < shape.keys; first += kBlockRows) {
    const std::int64_t rows = shape.keys - first < kBlockRows ? shape.keys - first : kBlockRows;
    multiply<T>(rows, columns / kLanes, inner, left_rows<T>(input.key, first), queries_t, scores, columns);
    multiply<T>(rows, columns / kLanes, inner, left_rows<T>(input.value, first), gradient_t, slopes, columns);
    for (std::int64_t i = 0; i < rows; ++i) {
      for (std::int64_t j = 0; j < columns; j += kLanes) {
        const std::int64_t at = i * columns + j;
        const __m512 p = exponential(_mm512_fmsub_ps(_mm512_loadu_ps(scores + at), scale, _mm512_loadu_ps(logs + j)));
        const __m512 slope = _mm512_sub_ps(_mm512_loadu_ps(slopes + at), _mm512_loadu_ps(means + j));
        T::store(probabilities + at, p);
        T::store(score_gradients + at, _mm512_mul_ps(_mm512_mul_ps(p, slope), scale));
      }
    }
    multiply<T>(rows, d / kLanes, outer, left_rows<T>({probabilities, columns}, 0), gradients, sums, d);
    store_rows<T>(sums, rows, d, nullptr, to.value, first);
    multiply<T>(rows, d / kLanes, outer, left_rows<T>({score_gradients, columns}, 0), queries, sums, d);
    store_rows<T>(sums, rows, d, nullptr, to.key, first);
    const LeftSide by_query{pairs_of_rows(score_gradients, rows, columns, pairs), 1, columns};
    multiply<T>(shape.queries, d / kLanes, steps_of<T>(rows), by_query,
                {keys.data + first / T::kPerWord * keys.row, keys.row}, query_sums, d, /*add=*/first > 0);
  }
  store_rows<T>(query_sums, shape.queries, d, nullptr, to.query, 0);
}

}  // namespace

std::int64_t attention_scratch_bytes(const HeadShape& shape) {
  const std::int64_t longest = round_up(shape.queries > shape.keys ? shape.queries : shape.keys, kLanes);
  const auto word = static_cast<std::int64_t>(sizeof(Word));
  const std::int64_t packed = 5 * longest * shape.width + longest * shape.width + 2 * longest;
  const std::int64_t block = 5 * kBlockRows * longest + kBlockRows * shape.width;
  constexpr std::int64_t kRounding = 16 * std::int64_t{64};  // each part begins at a multiple of 64
  return (packed + block) * word + kRounding;
}

void attention_forward(Element element, const HeadShape& shape, const HeadInput& input, Rows output, float* log_sums,
                       void* scratch) {
  element == Element::float32 ? forward<Float32>(shape, input, output, log_sums, scratch)
                              : forward<Bfloat16>(shape, input, output, log_sums, scratch);
}

void attention_backward(Element element, const HeadShape& shape, const HeadInput& input, ConstRows output,
                        ConstRows output_gradient, const float* log_sums, const HeadGradients& gradients,
                        void* scratch) {
  element == Element::float32 ? backward<Float32>(shape, input, output, output_gradient, log_sums, gradients, scratch)
                              : backward<Bfloat16>(shape, input, output, output_gradient, log_sums, gradients, scratch);
}

#else

std::int64_t attention_scratch_bytes(const HeadShape& /*shape*/) { return 0; }
void attention_forward(Element, const HeadShape&, const HeadInput&, Rows, float*, void*) {}
void attention_backward(Element, const HeadShape&, const HeadInput&, ConstRows, ConstRows, const float*,
                        const HeadGradients&, void*) {}

#endif

}  // namespace mmkd::kernels
