// libFuzzer target: the bytes are a picture, or a preprocessor_config.json where they start with '{'. Malformed input
// must end in Error; whatever decodes or parses must keep its promises.
#include <zlib.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string>
#include <string_view>

#include "mmkd/base/error.h"
#include "mmkd/image/image.h"

namespace {

constexpr std::int64_t max_pixels = 1 << 16;
constexpr std::size_t png_signature_size = 8;

void require(bool invariant) {
  if (!invariant) std::abort();
}

/// Mutations break the checksums first; with these mended they reach what lies behind.
std::string mend_png_checksums(std::string png) {
  const auto byte = [&](std::size_t i) { return static_cast<std::uint32_t>(static_cast<std::uint8_t>(png[i])); };
  for (std::size_t at = png_signature_size; png.size() - at >= 12;) {
    const std::size_t length = byte(at) << 24 | byte(at + 1) << 16 | byte(at + 2) << 8 | byte(at + 3);
    if (length > png.size() - at - 12) break;
    const auto crc = crc32(0, reinterpret_cast<const Bytef*>(png.data() + at + 4), static_cast<uInt>(length + 4));
    for (std::size_t i = 0; i < 4; ++i) png[at + 8 + length + i] = static_cast<char>(crc >> (24 - 8 * i));
    at += 12 + length;
  }
  return png;
}

void check_picture(std::string_view bytes) {
  try {
    const auto image = mmkd::decode_image(std::as_bytes(std::span(bytes)), "input", max_pixels);
    require(image.height > 0 && image.width > 0 && image.height * image.width <= max_pixels);
    require(image.rgb.size() == static_cast<std::size_t>(image.height * image.width * 3));
    const auto small = mmkd::resize(image, 7, 5, mmkd::Resample::bicubic);
    require(small.rgb.size() == 7 * 5 * 3);
  } catch (const mmkd::Error&) {  // what a malformed file must end in
  }
}

void check_processor(std::string_view json) {
  try {
    auto policy = mmkd::parse_image_policy(json, "input");
    require(!policy.pixel_key().empty());
    const auto [height, width] = policy.output_size();
    require(height > 0 && width > 0);
    if (height * width > max_pixels) return;
    const auto image = mmkd::apply_policy({3, 4, std::vector<std::uint8_t>(3 * 4 * 3, 100)}, policy);
    require(image.height == height && image.width == width);
  } catch (const mmkd::Error&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  if (bytes.starts_with('{')) {
    check_processor(bytes);
  } else {
    check_picture(bytes);
    if (bytes.starts_with("\x89PNG") && size > png_signature_size)
      check_picture(mend_png_checksums(std::string(bytes)));
  }
  return 0;
}
