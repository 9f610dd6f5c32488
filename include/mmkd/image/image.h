#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mmkd {

/// 8-bit RGB picture, rows of interleaved pixels.
struct Image {
  std::int64_t height = 0, width = 0;
  std::vector<std::uint8_t> rgb;  ///< [height, width, 3]
  bool grey = false;              ///< known to have three equal channels: they need be resized once only
};

/// Decodes PNG or JPEG as Pillow's `Image.open(f).convert("RGB")` does: grey and palettes become RGB, alpha is dropped
/// and never blended, EXIF orientation, gamma and colour profiles are ignored, CMYK is taken as inverted (Adobe).
/// Different from Pillow on purpose:
/// - 16-bit grey v becomes v * 255 / (2^b - 1), rounded, with the smallest b in 8..16 that holds the largest v. (Pillow
///   clips at 255, which turns such pictures white; up to 255 both agree.)
/// - Truncated files and damaged pixels are errors even where Pillow fills them in; so is a missing end marker.
/// Throws Error for these, for other formats, and for more than `max_pixels` pixels (Pillow's limit against
/// decompression bombs; checked in the header, before allocation). `name` appears in errors. Thread-safe.
Image decode_image(std::span<const std::byte> encoded, std::string_view name, std::int64_t max_pixels = 178'956'970);

/// Pillow's resampling filters, with the numbers that preprocessor_config.json uses for them.
enum class Resample : int { nearest = 0, lanczos = 1, bilinear = 2, bicubic = 3, box = 4, hamming = 5 };

/// What a Hugging Face image processor does, in this order: resize, centre crop, rescale, normalise, swap of channels.
struct ImagePolicy {
  bool do_resize = true;
  std::int64_t height = 224, width = 224;  ///< pixels; exact size, where shortest_edge is 0
  std::int64_t shortest_edge = 0;          ///< pixels of the short side; the long one follows, truncated
  Resample resample = Resample::bilinear;
  bool do_center_crop = false;
  std::int64_t crop_height = 0, crop_width = 0;
  bool do_rescale = true;
  double rescale_factor = 1.0 / 255.0;
  bool do_normalize = true;
  std::array<double, 3> mean{0.5, 0.5, 0.5}, std{0.5, 0.5, 0.5};  ///< in the network's order of channels
  bool bgr = false;  ///< do_flip_channel_order: the network's order of channels is B, G, R

  bool operator==(const ImagePolicy&) const = default;
  /// [height, width] of apply_policy()'s result; throws Error if it would depend on the input (no resize, or
  /// shortest_edge without crop).
  std::array<std::int64_t, 2> output_size() const;
  /// Canonical one-line JSON of what changes the uint8 pixels (resize and crop): equal keys, equal pixels.
  std::string pixel_key() const;
};

/// ViT's defaults at `size`: bilinear, mean and std 0.5.
ImagePolicy vit_policy(std::int64_t size);
/// Reads the preprocessor_config.json of ViT, DeiT, MobileViT and MobileNetV2 (…ImageProcessor, also …Fast and …Pil,
/// and the older …FeatureExtractor with plain numbers as sizes). Absent and null fields have the defaults of the
/// processor's class in transformers 5; MobileViT must name its `resample`, since releases disagree. MobileViT never
/// normalises. Throws Error for other processors, for values out of range, and for unknown steps (`do_…`) that are
/// switched on.
ImagePolicy read_image_policy(const std::filesystem::path& preprocessor_config);
/// The same from text, for tests and fuzzing; `name` appears in errors.
ImagePolicy parse_image_policy(std::string_view json, std::string_view name);

/// Pillow's Image.resize, bit for bit, for every filter: antialiased when shrinking, 22-bit fixed point, each of the
/// two passes rounds to 8 bits, and Pillow 13 chooses their order from the sizes. Throws Error for empty sizes.
Image resize(const Image& image, std::int64_t height, std::int64_t width, Resample filter);
/// Centre crop, from floor((size - crop) / 2). Where the crop is larger the picture is padded with zeros, the odd one
/// in front. Throws Error for empty sizes.
Image center_crop(const Image& image, std::int64_t height, std::int64_t width);
/// Resize and crop, computing only what the crop keeps. Always RGB: `bgr` is applied when pixels become floats.
Image apply_policy(const Image& image, const ImagePolicy& policy);

/// JPEG for people to look at; `quality` from 1 to 100. Throws Error for empty pictures.
std::string encode_jpeg(const Image& image, int quality);

/// What the network gets: table[c][b] for byte b of channel c of the network's input (c = 0 is blue where `bgr` is
/// set). float32(double(b) * rescale_factor), then (x - mean) / std in float32.
using PixelTable = std::array<std::array<float, 256>, 3>;
PixelTable pixel_table(const ImagePolicy& policy);

}  // namespace mmkd
