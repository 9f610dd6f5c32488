#pragma once
#include <cstdint>

#include "mmkd/config/config.h"
#include "mmkd/image/image.h"

namespace mmkd {

/// One random view of a picture, whatever its size: teacher and student show the same part of theirs.
struct AugmentedView {
  double top = 0, left = 0, height = 1, width = 1;  ///< the part that is shown, in shares of the picture
  bool flipped = false;                             ///< left and right change places
  double brightness = 1, contrast = 1, saturation = 1;
  bool operator==(const AugmentedView&) const = default;
};

/// View number `view` of a sample: a function of its arguments alone. The part has an area share in [min_scale, 1] and
/// a side ratio in [1 / max_ratio, max_ratio], uniform and log-uniform; where ten draws find none that fits, the whole
/// picture (torchvision's RandomResizedCrop).
AugmentedView draw_view(const AugmentConfig& config, std::uint64_t seed, std::uint64_t sample_key, std::int64_t view);

/// The view of a picture, in its size: crop, Pillow's bilinear resize, mirror, then brightness, contrast and saturation
/// as Pillow's ImageEnhance, each rounded to 8 bits.
Image apply_view(const Image& image, const AugmentedView& view);

}  // namespace mmkd
