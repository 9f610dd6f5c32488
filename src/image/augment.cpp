#include "mmkd/image/augment.h"

#include <algorithm>
#include <cmath>

#include "mmkd/base/rng.h"

namespace mmkd {
namespace {

double factor(KeyedRng& rng, double strength) { return 1.0 + strength * (2.0 * rng.uniform() - 1.0); }

Image crop(const Image& image, const AugmentedView& view) {
  const auto place = [](double begin, double share, std::int64_t extent) {
    const std::int64_t size = std::clamp<std::int64_t>(std::llround(share * static_cast<double>(extent)), 1, extent);
    return std::pair(std::min<std::int64_t>(std::llround(begin * static_cast<double>(extent)), extent - size), size);
  };
  const auto [top, height] = place(view.top, view.height, image.height);
  const auto [left, width] = place(view.left, view.width, image.width);
  Image part{.height = height, .width = width, .rgb = {}};
  part.rgb.reserve(static_cast<std::size_t>(height * width * 3));
  for (std::int64_t y = top; y < top + height; ++y) {
    const auto begin = image.rgb.begin() + (y * image.width + left) * 3;
    part.rgb.insert(part.rgb.end(), begin, begin + width * 3);
  }
  return part;
}

void mirror(Image& image) {
  for (std::int64_t y = 0; y < image.height; ++y) {
    auto* row = image.rgb.data() + y * image.width * 3;
    for (std::int64_t x = 0; x < image.width / 2; ++x)
      std::swap_ranges(row + 3 * x, row + 3 * x + 3, row + 3 * (image.width - 1 - x));
  }
}

/// Pillow's conversion to grey (ITU-R 601-2 luma).
int grey(const std::uint8_t* rgb) { return (rgb[0] * 19595 + rgb[1] * 38470 + rgb[2] * 7471 + 0x8000) >> 16; }

std::uint8_t blended(double base, double value, double share) {
  return static_cast<std::uint8_t>(std::clamp(std::lround(base + (value - base) * share), 0L, 255L));
}

/// Every value moves away from `base(pixel)` by the factor, or towards it.
template <class Base>
void enhance(Image& image, double share, const Base& base) {
  for (std::size_t i = 0; i + 2 < image.rgb.size(); i += 3) {
    const double from = base(image.rgb.data() + i);
    for (std::size_t c = 0; c < 3; ++c) image.rgb[i + c] = blended(from, image.rgb[i + c], share);
  }
}

double mean_grey(const Image& image) {
  double sum = 0;
  for (std::size_t i = 0; i + 2 < image.rgb.size(); i += 3) sum += grey(image.rgb.data() + i);
  const std::size_t pixels = image.rgb.size() / 3;
  return std::floor(sum / static_cast<double>(pixels) + 0.5);
}

}  // namespace

AugmentedView draw_view(const AugmentConfig& config, std::uint64_t seed, std::uint64_t sample_key, std::int64_t view) {
  KeyedRng rng(seed, RngPurpose::augment, {sample_key, static_cast<std::uint64_t>(view)});
  AugmentedView drawn;
  if (config.min_scale < 1) {
    constexpr int kAttempts = 10;
    for (int attempt = 0; attempt < kAttempts; ++attempt) {
      const double area = config.min_scale + (1 - config.min_scale) * rng.uniform();
      const double ratio = std::exp(std::log(config.max_ratio) * (2 * rng.uniform() - 1));
      const double width = std::sqrt(area * ratio), height = std::sqrt(area / ratio);
      if (width > 1 || height > 1) continue;
      drawn.width = width;
      drawn.height = height;
      drawn.left = (1 - width) * rng.uniform();
      drawn.top = (1 - height) * rng.uniform();
      break;
    }
  }
  drawn.flipped = rng.uniform() < config.horizontal_flip;
  drawn.brightness = factor(rng, config.brightness);
  drawn.contrast = factor(rng, config.contrast);
  drawn.saturation = factor(rng, config.saturation);
  return drawn;
}

Image apply_view(const Image& image, const AugmentedView& view) {
  const bool whole = view.height == 1 && view.width == 1;
  Image shown = whole ? image : resize(crop(image, view), image.height, image.width, Resample::bilinear);
  if (view.flipped) mirror(shown);
  if (view.brightness != 1) enhance(shown, view.brightness, [](const std::uint8_t*) { return 0.0; });
  if (view.contrast != 1) {
    const double mean = mean_grey(shown);
    enhance(shown, view.contrast, [&](const std::uint8_t*) { return mean; });
  }
  if (view.saturation != 1)
    enhance(shown, view.saturation, [](const std::uint8_t* rgb) { return static_cast<double>(grey(rgb)); });
  return shown;
}

}  // namespace mmkd
