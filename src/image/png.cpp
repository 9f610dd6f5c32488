#include <zlib.h>

#include <algorithm>
#include <limits>
#include <opencv2/imgcodecs.hpp>
#include <vector>

#include "codecs.h"
#include "mmkd/base/error.h"

// PNG (ISO/IEC 15948) by OpenCV. The chunks are walked here first: sizes are refused before anything is allocated,
// truncation and damage are told apart, and only the chunks that carry pixels are handed on. Transparency, gamma,
// colour profiles and animation frames therefore cannot change the result, nor make libpng print its warnings.
namespace mmkd::codecs {
namespace {

constexpr std::size_t signature_size = 8;
constexpr std::size_t header_size = 13;                                       // data of IHDR
constexpr std::size_t chunk_overhead = 12;                                    // length, type, CRC
constexpr std::uint32_t max_integer = 0x7FFF'FFFF;                            // of a PNG four-byte integer
constexpr std::uint32_t max_side = 1'000'000;                                 // libpng's limit
constexpr int gray = 0, rgb = 2, palette = 3, gray_alpha = 4, rgb_alpha = 6;  // colour types

struct Header {
  std::uint32_t width = 0, height = 0;
  int bit_depth = 0, color_type = 0, compression = 0, filter = 0, interlace = 0;
};

struct Chunk {
  std::string_view type;               // four letters
  std::span<const std::byte> data;     // without length, type and CRC
  std::span<const std::byte> encoded;  // with them
};

std::uint32_t big_endian32(const std::byte* p) {
  return std::to_integer<std::uint32_t>(p[0]) << 24 | std::to_integer<std::uint32_t>(p[1]) << 16 |
         std::to_integer<std::uint32_t>(p[2]) << 8 | std::to_integer<std::uint32_t>(p[3]);
}

/// The chunk at `offset`; throws Error if the file ends within it or its CRC doesn't fit.
Chunk read_chunk(std::span<const std::byte> file, std::size_t offset, std::string_view name) {
  const auto rest = file.subspan(offset);
  if (rest.size() < chunk_overhead) {
    throw Error("{}: truncated PNG: the file ends at byte {} without an IEND chunk", name, file.size());
  }
  const std::uint32_t length = big_endian32(rest.data());
  const std::string_view type(reinterpret_cast<const char*>(rest.data()) + 4, 4);
  const bool letters =
      std::all_of(type.begin(), type.end(), [](char c) { return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z'); });
  if (!letters || length > max_integer) {
    throw Error("{}: damaged PNG: no chunk where one should start, at byte {}", name, offset);
  }
  if (length > rest.size() - chunk_overhead) {
    throw Error("{}: truncated PNG: chunk {} at byte {} takes {} bytes, but the file has {} left", name, type, offset,
                std::size_t{length} + chunk_overhead, rest.size());
  }
  const auto covered = rest.subspan(4, 4 + std::size_t{length});  // by the CRC: type and data
  const std::uint32_t stored = big_endian32(covered.data() + covered.size());
  if (crc32(0, reinterpret_cast<const Bytef*>(covered.data()), static_cast<uInt>(covered.size())) != stored) {
    throw Error("{}: damaged PNG: wrong checksum of chunk {} at byte {}", name, type, offset);
  }
  return {type, covered.subspan(4), rest.first(chunk_overhead + length)};
}

Header read_header(const Chunk& chunk, std::string_view name) {
  if (chunk.type != "IHDR" || chunk.data.size() != header_size) {
    throw Error("{}: damaged PNG: it must start with an IHDR chunk of {} bytes", name, header_size);
  }
  const auto byte = [&](std::size_t i) { return std::to_integer<int>(chunk.data[i]); };
  const Header header{big_endian32(chunk.data.data()),
                      big_endian32(chunk.data.data() + 4),
                      byte(8),
                      byte(9),
                      byte(10),
                      byte(11),
                      byte(12)};
  const auto depth_is = [&](std::initializer_list<int> depths) {
    return std::find(depths.begin(), depths.end(), header.bit_depth) != depths.end();
  };
  const bool known = (header.color_type == gray && depth_is({1, 2, 4, 8, 16})) ||
                     (header.color_type == palette && depth_is({1, 2, 4, 8})) ||
                     ((header.color_type == rgb || header.color_type == gray_alpha || header.color_type == rgb_alpha) &&
                      depth_is({8, 16}));
  if (!known || header.compression != 0 || header.filter != 0 || header.interlace > 1) {
    throw Error(
        "{}: damaged PNG: colour type {}, bit depth {}, compression {}, filter {}, interlace {} do not exist together",
        name, header.color_type, header.bit_depth, header.compression, header.filter, header.interlace);
  }
  return header;
}

/// The same picture with nothing but IHDR, PLTE (where colours are indices), IDAT and IEND.
std::vector<std::byte> keep_pixel_chunks(std::span<const std::byte> file, Header& header, std::string_view name,
                                         std::int64_t max_pixels) {
  const Chunk first = read_chunk(file, signature_size, name);
  header = read_header(first, name);
  check_size(header.width, header.height, max_pixels, name);
  if (std::max(header.width, header.height) > max_side) {
    throw Error("{}: {}x{} pixels; the PNG decoder takes at most {} a side", name, header.width, header.height,
                max_side);
  }
  std::vector<std::byte> kept;
  kept.reserve(file.size());
  const auto keep = [&kept](std::span<const std::byte> bytes) { kept.insert(kept.end(), bytes.begin(), bytes.end()); };
  keep(file.first(signature_size));
  keep(first.encoded);

  bool has_palette = false, has_data = false;
  for (auto offset = signature_size + first.encoded.size();;) {
    const Chunk chunk = read_chunk(file, offset, name);
    if (chunk.type == "IDAT") {
      if (header.color_type == palette && !has_palette)
        throw Error("{}: damaged PNG: no PLTE chunk before the pixels", name);
      has_data = true;
      keep(chunk.encoded);
    } else if (chunk.type == "PLTE" && header.color_type == palette) {
      const auto size = chunk.data.size();
      if (has_palette || has_data || size == 0 || size % 3 != 0 || size > std::size_t{3} * 256) {
        throw Error("{}: damaged PNG: misplaced PLTE chunk, or one of {} bytes, at byte {}", name, size, offset);
      }
      has_palette = true;
      keep(chunk.encoded);
    } else if (chunk.type == "IEND") {
      if (!has_data) throw Error("{}: damaged PNG: no IDAT chunk, so no pixels", name);
      keep(chunk.encoded);
      return kept;
    } else if (chunk.type == "IHDR" || (chunk.type[0] < 'a' && chunk.type != "PLTE")) {
      // Upper case marks what a decoder must understand.
      throw Error("{}: damaged PNG: unexpected critical chunk {} at byte {}", name, chunk.type, offset);
    }
    offset += chunk.encoded.size();
  }
}

cv::Mat decode_with_opencv(const std::vector<std::byte>& png, const Header& header, std::string_view name) {
  if (png.size() > static_cast<std::size_t>(std::numeric_limits<int>::max())) {
    throw Error("{}: {} bytes are more than the PNG decoder takes", name, png.size());
  }
  // OpenCV only reads from it.
  const cv::Mat buffer(1, static_cast<int>(png.size()), CV_8UC1, const_cast<std::byte*>(png.data()));
  cv::Mat pixels;
  try {
    pixels = cv::imdecode(buffer, cv::IMREAD_UNCHANGED);
  } catch (const cv::Exception& error) {
    throw Error("{}: OpenCV cannot decode this PNG: {}", name, error.err);
  }
  if (pixels.empty()) throw Error("{}: damaged PNG: its compressed pixels are invalid or too few", name);
  if (pixels.rows != static_cast<int>(header.height) || pixels.cols != static_cast<int>(header.width) ||
      (pixels.depth() != CV_8U && pixels.depth() != CV_16U) || pixels.channels() == 2 || pixels.channels() > 4) {
    throw Error("{}: OpenCV decoded {}x{} pixels of type {}, the header says {}x{}", name, pixels.cols, pixels.rows,
                pixels.type(), header.width, header.height);
  }
  return pixels;
}

/// The picture's range in whole bits, 8 at least: 12-bit scans in 16-bit files use their full contrast, and values that
/// fit into 8 bits stay as they are.
unsigned bits_in_use(const cv::Mat& gray16) {
  std::uint16_t all = 0;
  for (int y = 0; y < gray16.rows; ++y) {
    const auto* row = gray16.ptr<std::uint16_t>(y);
    for (int x = 0; x < gray16.cols; ++x) all = static_cast<std::uint16_t>(all | row[x]);
  }
  unsigned bits = 8;
  while (all >> bits != 0) ++bits;
  return bits;
}

void copy_gray16(const cv::Mat& pixels, std::uint8_t* out) {
  const std::uint32_t top = (1U << bits_in_use(pixels)) - 1;
  for (int y = 0; y < pixels.rows; ++y) {
    const auto* row = pixels.ptr<std::uint16_t>(y);
    for (int x = 0; x < pixels.cols; ++x, out += 3) {
      out[0] = out[1] = out[2] = static_cast<std::uint8_t>((row[x] * 255U + top / 2) / top);
    }
  }
}

/// OpenCV's order of channels is gray, BGR or BGRA. Of 16 bits the upper 8 are taken, as Pillow does for colours.
template <class T, int channels>
void copy_rgb(const cv::Mat& pixels, std::uint8_t* out) {
  constexpr int red = channels == 1 ? 0 : 2, green = channels == 1 ? 0 : 1;
  constexpr int shift = 8 * (sizeof(T) - 1);
  for (int y = 0; y < pixels.rows; ++y) {
    const T* row = pixels.ptr<T>(y);
    for (int x = 0; x < pixels.cols; ++x, out += 3) {
      const T* pixel = row + std::ptrdiff_t{x} * channels;
      out[0] = static_cast<std::uint8_t>(pixel[red] >> shift);
      out[1] = static_cast<std::uint8_t>(pixel[green] >> shift);
      out[2] = static_cast<std::uint8_t>(pixel[0] >> shift);
    }
  }
}

}  // namespace

Image decode_png(std::span<const std::byte> encoded, std::string_view name, std::int64_t max_pixels) {
  Header header;
  const auto png = keep_pixel_chunks(encoded, header, name, max_pixels);
  const cv::Mat pixels = decode_with_opencv(png, header, name);
  Image image{pixels.rows, pixels.cols, std::vector<std::uint8_t>(pixels.total() * 3), pixels.channels() == 1};
  std::uint8_t* out = image.rgb.data();
  switch (pixels.type()) {
    case CV_8UC1:
      copy_rgb<std::uint8_t, 1>(pixels, out);
      break;
    case CV_8UC3:
      copy_rgb<std::uint8_t, 3>(pixels, out);
      break;
    case CV_8UC4:
      copy_rgb<std::uint8_t, 4>(pixels, out);
      break;
    case CV_16UC1:
      copy_gray16(pixels, out);
      break;
    case CV_16UC3:
      copy_rgb<std::uint16_t, 3>(pixels, out);
      break;
    default:
      copy_rgb<std::uint16_t, 4>(pixels, out);
      break;
  }
  return image;
}

}  // namespace mmkd::codecs
