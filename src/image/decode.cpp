#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string>

#include "codecs.h"
#include "mmkd/base/error.h"

namespace mmkd {
namespace {

constexpr std::array<std::uint8_t, 8> png_signature{0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n'};
constexpr std::array<std::uint8_t, 3> jpeg_start{0xFF, 0xD8, 0xFF};

template <std::size_t n>
bool starts_with(std::span<const std::byte> bytes, const std::array<std::uint8_t, n>& prefix) {
  return bytes.size() >= n && std::equal(prefix.begin(), prefix.end(), bytes.begin(), [](std::uint8_t a, std::byte b) {
           return a == std::to_integer<std::uint8_t>(b);
         });
}

std::string first_bytes(std::span<const std::byte> bytes) {
  std::string text;
  for (const auto byte : bytes.first(std::min<std::size_t>(bytes.size(), 8))) {
    text += fmt::format("{}{:02x}", text.empty() ? "" : " ", std::to_integer<unsigned>(byte));
  }
  return text;
}

}  // namespace

void codecs::check_size(std::uint64_t width, std::uint64_t height, std::int64_t max_pixels, std::string_view name) {
  if (width == 0 || height == 0)
    throw Error("{}: the header says {}x{} pixels; the picture is empty", name, width, height);
  // Both codecs hold sizes in 32 bits, so the product cannot overflow.
  if (max_pixels < 0 || width * height > static_cast<std::uint64_t>(max_pixels)) {
    throw Error(
        "{}: the header says {}x{} pixels, more than the limit of {}; is the file damaged? Scale it down otherwise",
        name, width, height, max_pixels);
  }
}

Image decode_image(std::span<const std::byte> encoded, std::string_view name, std::int64_t max_pixels) {
  if (encoded.empty()) throw Error("{}: the picture file is empty", name);
  if (starts_with(encoded, png_signature)) return codecs::decode_png(encoded, name, max_pixels);
  if (starts_with(encoded, jpeg_start)) return codecs::decode_jpeg(encoded, name, max_pixels);
  throw Error("{}: neither PNG nor JPEG (it starts with the bytes {}); convert it to one of them", name,
              first_bytes(encoded));
}

}  // namespace mmkd
