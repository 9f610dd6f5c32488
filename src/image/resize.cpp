#include <algorithm>
#include <cstring>

#include "mmkd/base/error.h"
#include "resample.h"

// Pillow's two-pass resampling of 8-bit pictures in fixed point: each pass rounds and clips to 8 bits.

// The passes are integer arithmetic, so wider registers change their speed but not their results.
#if defined(__x86_64__) && defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && \
    !defined(__clang__)
#define MMKD_WIDEST_SIMD __attribute__((target_clones("avx2", "default")))
#else
#define MMKD_WIDEST_SIMD
#endif

namespace mmkd {
namespace resample {
namespace {

constexpr std::int32_t half = 1 << (precision_bits - 1);

/// Rows of interleaved bytes: 3 channels, or 1 where all would be equal.
struct Pixels {
  std::int64_t height = 0, width = 0, channels = 0;
  std::vector<std::uint8_t> bytes;

  Pixels(std::int64_t rows, std::int64_t columns, std::int64_t bytes_per_pixel)
      : height(rows),
        width(columns),
        channels(bytes_per_pixel),
        bytes(static_cast<std::size_t>(rows * columns * bytes_per_pixel)) {}
  std::uint8_t* row(std::int64_t y) { return bytes.data() + y * width * channels; }
};

/// Part of a picture; its rows are `stride` bytes apart.
struct View {
  const std::uint8_t* data;
  std::int64_t height, width, channels, stride;

  explicit View(const Image& image)
      : data(image.rgb.data()), height(image.height), width(image.width), channels(3), stride(image.width * 3) {}
  explicit View(const Pixels& pixels)
      : data(pixels.bytes.data()),
        height(pixels.height),
        width(pixels.width),
        channels(pixels.channels),
        stride(pixels.width * pixels.channels) {}
  const std::uint8_t* row(std::int64_t y) const { return data + y * stride; }
  std::int64_t row_bytes() const { return width * channels; }
  void keep_rows(Range rows) {
    data += rows.begin * stride;
    height = rows.size();
  }
  void keep_columns(Range columns) {
    data += columns.begin * channels;
    width = columns.size();
  }
};

Pixels copy(const View& view) {
  Pixels pixels(view.height, view.width, view.channels);
  for (std::int64_t y = 0; y < view.height; ++y) std::copy_n(view.row(y), view.row_bytes(), pixels.row(y));
  return pixels;
}

Pixels first_channel(const Image& image) {
  Pixels pixels(image.height, image.width, 1);
  for (std::size_t i = 0; i < pixels.bytes.size(); ++i) pixels.bytes[i] = image.rgb[i * 3];
  return pixels;
}

Image to_image(Pixels pixels) {
  if (pixels.channels == 3) return {pixels.height, pixels.width, std::move(pixels.bytes)};
  Image image{pixels.height, pixels.width, std::vector<std::uint8_t>(pixels.bytes.size() * 3), true};
  std::uint8_t* out = image.rgb.data();
  for (const auto byte : pixels.bytes) {
    out[0] = out[1] = out[2] = byte;
    out += 3;
  }
  return image;
}

inline std::uint8_t to_byte(std::int32_t fixed) {
  return static_cast<std::uint8_t>(std::clamp(fixed >> precision_bits, 0, 255));
}

// The horizontal pass takes some rows at once, so that one tap is one multiply-add over all their channels. Their
// pixels lie side by side: [width, lanes]. Of RGB these are 4 rows, each with a lane of padding behind its channels; of
// one channel 16.
constexpr int lanes = 16;

using Lanes = std::int32_t __attribute__((vector_size(4 * lanes / 2)));  // half of them: one register of AVX2

/// Lanes of one row.
constexpr int row_lanes(std::int64_t channels) { return channels == 3 ? 4 : 1; }

void interleave_row(const std::uint8_t* in, std::int64_t width, std::int64_t channels, std::int32_t* out) {
  if (channels == 1) {
    for (std::int64_t x = 0; x < width; ++x, out += lanes) *out = in[x];
    return;
  }
  for (std::int64_t x = 0; x < width; ++x, in += 3, out += lanes) {
    for (int c = 0; c < 3; ++c) out[c] = in[c];
  }
}

void separate_row(const std::uint8_t* in, std::int64_t width, std::int64_t channels, std::uint8_t* out) {
  if (channels == 1) {
    for (std::int64_t x = 0; x < width; ++x) out[x] = in[x * lanes];
    return;
  }
  // Four bytes are moved at once; the fourth lies where the next pixel goes, which the last one doesn't have.
  for (std::int64_t x = 0; x + 1 < width; ++x) std::memcpy(out + x * 3, in + x * lanes, 4);
  std::memcpy(out + (width - 1) * 3, in + (width - 1) * lanes, 3);
}

/// `pixels`: [source width, lanes], `origin`: the column of the whole picture that is their first;
/// `result`: [k.windows.size(), lanes].
MMKD_WIDEST_SIMD void sum_columns(const std::int32_t* __restrict pixels, std::int64_t origin, const Coefficients& k,
                                  std::uint8_t* __restrict result) {
  const std::int32_t* __restrict weights = k.weights.data();
  for (const Range window : k.windows) {
    const std::int32_t* in = pixels + (window.begin - origin) * lanes;
    Lanes low = Lanes{} + half, high = low;
    for (std::int64_t t = 0; t < window.size(); ++t, in += lanes) {
      Lanes a, b;
      std::memcpy(&a, in, sizeof a);
      std::memcpy(&b, in + lanes / 2, sizeof b);
      low += a * weights[t];
      high += b * weights[t];
    }
    for (int l = 0; l < lanes / 2; ++l) result[l] = to_byte(low[l]);
    for (int l = 0; l < lanes / 2; ++l) result[lanes / 2 + l] = to_byte(high[l]);
    weights += k.taps;
    result += lanes;
  }
}

/// `origin`: the column of the whole picture that is the source's first.
Pixels horizontal_pass(const View& source, const Coefficients& k, std::int64_t origin) {
  const auto width = static_cast<std::int64_t>(k.windows.size());
  const int of_row = row_lanes(source.channels);
  const std::int64_t rows_at_once = lanes / of_row;
  Pixels result(source.height, width, source.channels);
  std::vector<std::int32_t> pixels(static_cast<std::size_t>(source.width * lanes));
  std::vector<std::uint8_t> resized(static_cast<std::size_t>(width * lanes));
  for (std::int64_t y = 0; y < source.height; y += rows_at_once) {
    const auto rows = std::min<std::int64_t>(rows_at_once, source.height - y);
    for (std::int64_t r = 0; r < rows; ++r)
      interleave_row(source.row(y + r), source.width, source.channels, pixels.data() + of_row * r);
    sum_columns(pixels.data(), origin, k, resized.data());
    for (std::int64_t r = 0; r < rows; ++r)
      separate_row(resized.data() + of_row * r, width, source.channels, result.row(y + r));
  }
  return result;
}

MMKD_WIDEST_SIMD void sum_rows(const std::uint8_t* __restrict rows, std::int64_t stride,
                               const std::int32_t* __restrict weights, std::int64_t taps, std::int64_t bytes,
                               std::uint8_t* __restrict out) {
  constexpr std::int64_t block = 32;
  std::int64_t i = 0;
  for (; i + block <= bytes; i += block) {
    std::int32_t sum[block];
    for (int l = 0; l < block; ++l) sum[l] = half;
    for (std::int64_t t = 0; t < taps; ++t) {
      const std::uint8_t* row = rows + t * stride + i;
      for (int l = 0; l < block; ++l) sum[l] += weights[t] * row[l];
    }
    for (int l = 0; l < block; ++l) out[i + l] = to_byte(sum[l]);
  }
  for (; i < bytes; ++i) {
    std::int32_t sum = half;
    for (std::int64_t t = 0; t < taps; ++t) sum += weights[t] * rows[t * stride + i];
    out[i] = to_byte(sum);
  }
}

/// `origin`: the row of the whole picture that is the source's first.
Pixels vertical_pass(const View& source, const Coefficients& k, std::int64_t origin) {
  const auto height = static_cast<std::int64_t>(k.windows.size());
  Pixels result(height, source.width, source.channels);
  for (std::int64_t y = 0; y < height; ++y) {
    const Range window = k.windows[static_cast<std::size_t>(y)];
    sum_rows(source.row(window.begin - origin), source.stride, k.of(y), window.size(), source.row_bytes(),
             result.row(y));
  }
  return result;
}

/// Input positions of the outputs. Pillow adds up the scale instead of multiplying, which decides ties.
std::vector<std::int64_t> nearest_positions(std::int64_t in, std::int64_t out, Range outputs) {
  const double scale = static_cast<double>(in) / static_cast<double>(out);
  std::vector<std::int64_t> positions;
  positions.reserve(static_cast<std::size_t>(outputs.size()));
  double position = scale * 0.5;
  for (std::int64_t i = 0; i < outputs.end; ++i, position += scale) {
    if (i >= outputs.begin) positions.push_back(std::min(static_cast<std::int64_t>(position), in - 1));
  }
  return positions;
}

Pixels nearest(const View& source, std::int64_t height, std::int64_t width, Range rows, Range columns) {
  const auto xs = nearest_positions(source.width, width, columns);
  const auto ys = nearest_positions(source.height, height, rows);
  Pixels result(rows.size(), columns.size(), source.channels);
  std::uint8_t* out = result.bytes.data();
  for (const auto y : ys) {
    const std::uint8_t* row = source.row(y);
    for (const auto x : xs) out = std::copy_n(row + x * source.channels, source.channels, out);
  }
  return result;
}

/// The rows and columns of the whole of `source` resized to `height` x `width`.
Pixels resize_view(View source, std::int64_t height, std::int64_t width, Resample filter, Range rows, Range columns) {
  if (filter == Resample::nearest) return nearest(source, height, width, rows, columns);
  const auto in_height = source.height, in_width = source.width;
  const bool horizontal = width != in_width, vertical = height != in_height;
  if (!vertical) source.keep_rows(rows);
  if (!horizontal) source.keep_columns(columns);
  if (!horizontal && !vertical) return copy(source);
  if (!vertical) return horizontal_pass(source, coefficients(in_width, width, columns, filter), 0);
  const Coefficients ky = coefficients(in_height, height, rows, filter);
  if (!horizontal) return vertical_pass(source, ky, 0);
  const Coefficients kx = coefficients(in_width, width, columns, filter);

  // The first pass makes only what the second one reads. Pillow 13 goes down the columns first where that removes more.
  if (height < in_height && in_height - height > 2 * (in_width - width)) {
    source.keep_columns(kx.span());
    return horizontal_pass(View(vertical_pass(source, ky, 0)), kx, kx.span().begin);
  }
  source.keep_rows(ky.span());
  return vertical_pass(View(horizontal_pass(source, kx, 0)), ky, ky.span().begin);
}

}  // namespace

Image resize_part(const Image& image, std::int64_t height, std::int64_t width, Resample filter, Range rows,
                  Range columns) {
  if (!image.grey) return to_image(resize_view(View(image), height, width, filter, rows, columns));
  return to_image(resize_view(View(first_channel(image)), height, width, filter, rows, columns));
}

}  // namespace resample

Image resize(const Image& image, std::int64_t height, std::int64_t width, Resample filter) {
  if (image.height < 1 || image.width < 1 || height < 1 || width < 1) {
    throw Error("cannot resize a picture of {}x{} to {}x{} pixels: all must be positive", image.width, image.height,
                width, height);
  }
  return resample::resize_part(image, height, width, filter, {0, height}, {0, width});
}

}  // namespace mmkd
