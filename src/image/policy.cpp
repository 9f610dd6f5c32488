#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <string>

#include "mmkd/base/error.h"
#include "resample.h"

namespace mmkd {
namespace {

using resample::Range;

/// One side of a centre crop: the part that is kept, and the zeros before it.
struct CropSide {
  Range kept;
  std::int64_t padding = 0;
};

CropSide crop_side(std::int64_t length, std::int64_t crop) {
  if (crop > length) return {{0, length}, (crop - length + 1) / 2};
  const auto begin = (length - crop) / 2;
  return {{begin, begin + crop}, 0};
}

/// Centre crop of resize(image, height, width, filter): only the part that is kept is computed.
Image resize_and_crop(const Image& image, std::int64_t height, std::int64_t width, Resample filter,
                      std::int64_t crop_height, std::int64_t crop_width) {
  const CropSide vertical = crop_side(height, crop_height), horizontal = crop_side(width, crop_width);
  Image part = resample::resize_part(image, height, width, filter, vertical.kept, horizontal.kept);
  if (part.height == crop_height && part.width == crop_width) return part;
  Image padded{crop_height, crop_width,
               std::vector<std::uint8_t>(static_cast<std::size_t>(crop_height * crop_width * 3))};
  for (std::int64_t y = 0; y < part.height; ++y) {
    std::copy_n(part.rgb.data() + y * part.width * 3, part.width * 3,
                padded.rgb.data() + ((y + vertical.padding) * crop_width + horizontal.padding) * 3);
  }
  return padded;
}

/// [height, width] after the resize of a policy, before its crop.
std::array<std::int64_t, 2> resized_size(const Image& image, const ImagePolicy& policy) {
  if (!policy.do_resize) return {image.height, image.width};
  if (policy.shortest_edge == 0) return {policy.height, policy.width};
  const auto [short_side, long_side] = std::minmax(image.height, image.width);
  // In double precision and truncated, as the reference does.
  const double scaled = static_cast<double>(policy.shortest_edge * long_side) / static_cast<double>(short_side);
  if (scaled > std::numeric_limits<std::int32_t>::max()) {
    throw Error("a picture of {}x{} pixels is too narrow to be resized to a shortest edge of {}", image.width,
                image.height, policy.shortest_edge);
  }
  const auto long_resized = static_cast<std::int64_t>(scaled);
  if (image.height <= image.width) return {policy.shortest_edge, long_resized};
  return {long_resized, policy.shortest_edge};
}

void require_positive(std::int64_t height, std::int64_t width, const char* what) {
  if (height < 1 || width < 1) throw Error("{} {}x{} (height x width): both must be positive", what, height, width);
}

}  // namespace

std::array<std::int64_t, 2> ImagePolicy::output_size() const {
  if (do_center_crop) return {crop_height, crop_width};
  if (do_resize && shortest_edge == 0) return {height, width};
  throw Error(
      "the image processor leaves pictures of different sizes ({}, no centre crop), but all must have one size: use a "
      "processor with size {{height, width}} or with do_center_crop",
      do_resize ? fmt::format("shortest_edge {}", shortest_edge) : "no resize");
}

std::string ImagePolicy::pixel_key() const {
  const bool exact = do_resize && shortest_edge == 0;
  std::string key = "{\"crop\":";
  // A crop to the very size of the resize changes nothing.
  if (do_center_crop && !(exact && crop_height == height && crop_width == width)) {
    key += fmt::format("[{},{}]", crop_height, crop_width);
  } else {
    key += "null";
  }
  if (!do_resize) return key + ",\"resize\":null}";
  key += fmt::format(",\"resample\":{},\"resize\":", static_cast<int>(resample));
  return key + (exact ? fmt::format("[{},{}]}}", height, width) : fmt::format("{}}}", shortest_edge));
}

ImagePolicy vit_policy(std::int64_t size) {
  ImagePolicy policy;
  policy.height = policy.width = size;
  return policy;
}

Image center_crop(const Image& image, std::int64_t height, std::int64_t width) {
  require_positive(image.height, image.width, "cannot crop a picture of");
  require_positive(height, width, "cannot crop a picture to");
  return resize_and_crop(image, image.height, image.width, Resample::box, height, width);
}

Image apply_policy(const Image& image, const ImagePolicy& policy) {
  require_positive(image.height, image.width, "cannot preprocess a picture of");
  const auto [height, width] = resized_size(image, policy);
  require_positive(height, width, "the image processor resizes to");
  if (!policy.do_center_crop) return resize_and_crop(image, height, width, policy.resample, height, width);
  require_positive(policy.crop_height, policy.crop_width, "the image processor crops to");
  return resize_and_crop(image, height, width, policy.resample, policy.crop_height, policy.crop_width);
}

PixelTable pixel_table(const ImagePolicy& policy) {
  PixelTable table{};
  for (std::size_t c = 0; c < table.size(); ++c) {
    const auto mean = static_cast<float>(policy.mean[c]), std = static_cast<float>(policy.std[c]);
    for (std::size_t b = 0; b < table[c].size(); ++b) {
      float x = static_cast<float>(b);
      if (policy.do_rescale) x = static_cast<float>(static_cast<double>(b) * policy.rescale_factor);
      if (policy.do_normalize) x = (x - mean) / std;
      table[c][b] = x;
    }
  }
  return table;
}

}  // namespace mmkd
