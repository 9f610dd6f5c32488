#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "mmkd/image/image.h"

// One decoder per file format behind decode_image(); `name` appears in errors.
namespace mmkd::codecs {

/// `encoded` starts with the PNG signature.
Image decode_png(std::span<const std::byte> encoded, std::string_view name, std::int64_t max_pixels);
/// `encoded` starts with a JPEG start-of-image marker.
Image decode_jpeg(std::span<const std::byte> encoded, std::string_view name, std::int64_t max_pixels);

/// Throws Error for empty pictures and for more than `max_pixels`; call it before anything is allocated.
void check_size(std::uint64_t width, std::uint64_t height, std::int64_t max_pixels, std::string_view name);

}  // namespace mmkd::codecs
