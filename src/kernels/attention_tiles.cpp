#include "attention_tiles.h"

#include "attention_body.h"
#include "mmkd/kernels/element.h"

namespace mmkd::kernels {

// GCC and old versions of clang spell these differently.
#if defined(MMKD_AVX512) && (defined(__AMX_BF16__) || defined(__AMXBF16__))
namespace {

constexpr std::int64_t kTileRows = 16;
constexpr std::int64_t kTileWords = 16;  // of a row

struct Tiles : Bfloat16 {
  static constexpr std::int64_t kBlockRows = 2 * kTileRows, kUnit = 2 * kTileWords, kRowUnit = kTileRows,
                                kSummed = 2 * kTileWords;
};

/// Sets this thread's eight tiles to 16 rows of 64 bytes: 0 … 3 are a block of C, two by two, 4 and 5 its rows of A, 6
/// and 7 its columns of B. Other code of the thread may set them otherwise, so each head's work has one of these.
class TileSetting {
 public:
  TileSetting() {
    struct alignas(64) {
      std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
      std::uint16_t row_bytes[16] = {};
      std::uint8_t rows[16] = {};
    } config;
    for (int tile = 0; tile < 8; ++tile) {
      config.row_bytes[tile] = 4 * kTileWords;
      config.rows[tile] = static_cast<std::uint8_t>(kTileRows);
    }
    _tile_loadconfig(&config);
  }
  TileSetting(const TileSetting&) = delete;
  TileSetting& operator=(const TileSetting&) = delete;
  ~TileSetting() { _tile_release(); }
};

/// The compiler may not move reads and writes across: it does not know that tile instructions are some.
void memory_barrier() { __asm__ volatile("" ::: "memory"); }

template <bool kLower>  // whether there are rows for the lower tiles
void multiply_block(const LeftSide& a, const RightSide& b, std::int64_t steps, float* c, std::int64_t c_row, bool add) {
  const auto a_bytes = a.row * 4, b_bytes = b.row * 4, c_bytes = c_row * 4;
  const Word* lower_a = a.data + kTileRows * a.row;
  float* lower_c = c + kTileRows * c_row;
  if (add) {
    _tile_loadd(0, c, c_bytes);
    _tile_loadd(1, c + kTileWords, c_bytes);
    if constexpr (kLower) {
      _tile_loadd(2, lower_c, c_bytes);
      _tile_loadd(3, lower_c + kTileWords, c_bytes);
    }
  } else {
    _tile_zero(0);
    _tile_zero(1);
    if constexpr (kLower) {
      _tile_zero(2);
      _tile_zero(3);
    }
  }
  for (std::int64_t k = 0; k < steps; k += kTileWords) {
    const Word* b_rows = b.data + k * b.row;
    _tile_loadd(4, a.data + k, a_bytes);
    _tile_loadd(6, b_rows, b_bytes);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(7, b_rows + kTileWords, b_bytes);
    _tile_dpbf16ps(1, 4, 7);
    if constexpr (kLower) {
      _tile_loadd(5, lower_a + k, a_bytes);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
  }
  _tile_stored(0, c, c_bytes);
  _tile_stored(1, c + kTileWords, c_bytes);
  if constexpr (kLower) {
    _tile_stored(2, lower_c, c_bytes);
    _tile_stored(3, lower_c + kTileWords, c_bytes);
  }
}

void product(Tiles /*type*/, std::int64_t rows, std::int64_t vectors, std::int64_t steps, LeftSide a,
             const RightSide& b, float* c, std::int64_t c_row, bool add) {
  memory_barrier();
  for (; rows > 0; rows -= 2 * kTileRows) {
    for (std::int64_t v = 0; v < vectors; v += 2) {
      const RightSide columns{b.data + v * kTileWords, b.row};
      float* to = c + v * kTileWords;
      if (rows > kTileRows) {
        multiply_block<true>(a, columns, steps, to, c_row, add);
      } else {
        multiply_block<false>(a, columns, steps, to, c_row, add);
      }
    }
    a.data += 2 * kTileRows * a.row;
    c += 2 * kTileRows * c_row;
  }
  memory_barrier();
}

LeftSide left_columns(Tiles /*type*/, const std::uint16_t* x, std::int64_t rows, std::int64_t columns, Word* memory) {
  const std::int64_t pairs = (rows + 1) / 2;
  const RightSide by_row = right_rows(Bfloat16{}, {x, columns}, rows, pairs, columns, memory);
  Word* by_column = memory + kTileWords * columns;
  for (std::int64_t j = 0; j < columns; j += kTileWords)
    transpose_tile(by_row.data + j, columns, pairs, by_column + j * kTileWords, kTileWords);
  return {by_column, kTileWords, 1};
}

}  // namespace

bool tiles_serve(const HeadShape& shape) { return shape.width % Tiles::kUnit == 0 && tiles_available(); }

void attention_tiles_forward(const HeadShape& shape, const HeadInput& input, Rows output, float* log_sums,
                             void* scratch) {
  const TileSetting setting;
  forward<Tiles>(shape, input, output, log_sums, scratch);
}

void attention_tiles_backward(const HeadShape& shape, const HeadInput& input, ConstRows output,
                              ConstRows output_gradient, const float* log_sums, const HeadGradients& gradients,
                              void* scratch) {
  const TileSetting setting;
  backward<Tiles>(shape, input, output, output_gradient, log_sums, gradients, scratch);
}

#else

bool tiles_serve(const HeadShape& /*shape*/) { return false; }
void attention_tiles_forward(const HeadShape&, const HeadInput&, Rows, float*, void*) {}
void attention_tiles_backward(const HeadShape&, const HeadInput&, ConstRows, ConstRows, const float*,
                              const HeadGradients&, void*) {}

#endif

}  // namespace mmkd::kernels
