#pragma once
#include <cstdint>
#include <vector>

#include "mmkd/image/image.h"

// The one-dimensional half of Pillow's resampling, and the resize of a part of a picture.
namespace mmkd::resample {

/// Half-open range of rows or columns.
struct Range {
  std::int64_t begin = 0, end = 0;
  std::int64_t size() const { return end - begin; }
};

/// Bits behind the point of a coefficient: 8 bits of a pixel and 2 of overshoot remain in 32.
constexpr int precision_bits = 32 - 8 - 2;

/// What each output position takes from the input. Coefficients of one position lie together, `taps` apart from the
/// next.
struct Coefficients {
  std::vector<Range> windows;         ///< [outputs] input positions
  std::vector<std::int32_t> weights;  ///< [outputs, taps] fixed point; those behind a window's end are unused
  std::int64_t taps = 0;

  const std::int32_t* of(std::int64_t output) const { return weights.data() + output * taps; }
  /// The input positions that are used at all.
  Range span() const;
};

/// For the output positions `outputs` of a line of `in` pixels resized to `out`. Not for Resample::nearest.
Coefficients coefficients(std::int64_t in, std::int64_t out, Range outputs, Resample filter);

/// The rows and columns of resize(image, height, width, filter), at the cost of that part alone.
Image resize_part(const Image& image, std::int64_t height, std::int64_t width, Resample filter, Range rows,
                  Range columns);

}  // namespace mmkd::resample
