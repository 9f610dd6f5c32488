#pragma once
#include <gtest/gtest.h>
#include <zlib.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mmkd/base/files.h"
#include "mmkd/base/rng.h"
#include "mmkd/image/image.h"

// Pictures for tests: small PNG files byte by byte, the files of the parity cases, and noise.
namespace mmkd::test {

inline std::span<const std::byte> bytes_of(std::string_view text) { return std::as_bytes(std::span(text)); }

inline Image decode(std::string_view encoded) { return decode_image(bytes_of(encoded), "test picture"); }

inline std::string big_endian32(std::uint32_t value) {
  return {static_cast<char>(value >> 24), static_cast<char>(value >> 16), static_cast<char>(value >> 8),
          static_cast<char>(value)};
}

inline testing::AssertionResult contains(std::string_view text, std::string_view part) {
  if (text.find(part) != std::string_view::npos) return testing::AssertionSuccess();
  return testing::AssertionFailure() << "no \"" << part << "\" in \"" << text << "\"";
}

inline testing::AssertionResult starts_with(std::string_view text, std::string_view part) {
  if (text.starts_with(part)) return testing::AssertionSuccess();
  return testing::AssertionFailure() << "no \"" << part << "\" at the start of \"" << text << "\"";
}

/// Bytes from numbers, zeros included.
inline std::string raw(std::initializer_list<int> values) {
  std::string text;
  for (const int value : values) text += static_cast<char>(value);
  return text;
}

inline std::string chunk(std::string_view type, std::string_view data) {
  const std::string covered = std::string(type) + std::string(data);
  const auto crc = crc32(0, reinterpret_cast<const Bytef*>(covered.data()), static_cast<uInt>(covered.size()));
  return big_endian32(static_cast<std::uint32_t>(data.size())) + covered +
         big_endian32(static_cast<std::uint32_t>(crc));
}

inline std::string deflate(std::string_view data) {
  uLongf size = compressBound(data.size());
  std::string out(size, '\0');
  compress(reinterpret_cast<Bytef*>(out.data()), &size, reinterpret_cast<const Bytef*>(data.data()), data.size());
  out.resize(size);
  return out;
}

inline const std::string png_signature = "\x89PNG\r\n\x1A\n";

struct Png {
  std::uint32_t width = 1, height = 1;
  int bit_depth = 8, color_type = 0;  // 0 grey, 2 RGB, 3 palette, 4 grey and alpha, 6 RGB and alpha
  std::string scanlines;              // each led by its filter type, 0
  std::string before_pixels = "";     // further chunks

  std::string header() const {
    return chunk("IHDR", big_endian32(width) + big_endian32(height) + raw({bit_depth, color_type, 0, 0, 0}));
  }
  std::string encode() const {
    return png_signature + header() + before_pixels + chunk("IDAT", deflate(scanlines)) + chunk("IEND", "");
  }
};

/// A file of tests/parity/cases.
inline std::string case_file(std::string_view path) {
  return read_file(std::string(MMKD_SOURCE_DIR) + "/tests/parity/cases/" + std::string(path));
}

inline Image noise(std::int64_t height, std::int64_t width, std::uint64_t seed) {
  Image image{height, width, std::vector<std::uint8_t>(static_cast<std::size_t>(height * width * 3))};
  KeyedRng rng(seed, RngPurpose::demo);
  for (auto& byte : image.rgb) byte = static_cast<std::uint8_t>(rng.below(256));
  return image;
}

/// One row of grey pixels.
inline Image row(const std::vector<std::uint8_t>& values) {
  Image image{1, static_cast<std::int64_t>(values.size()), {}};
  for (const auto value : values) image.rgb.insert(image.rgb.end(), 3, value);
  return image;
}

inline std::vector<std::uint8_t> reds(const Image& image) {
  std::vector<std::uint8_t> values;
  for (std::size_t i = 0; i < image.rgb.size(); i += 3) values.push_back(image.rgb[i]);
  return values;
}

inline constexpr std::array all_filters{Resample::nearest, Resample::lanczos, Resample::bilinear,
                                        Resample::bicubic, Resample::box,     Resample::hamming};

}  // namespace mmkd::test
