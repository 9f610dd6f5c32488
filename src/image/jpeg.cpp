#include <csetjmp>
#include <cstdio>  // jpeglib.h needs it

#include <jpeglib.h>

#include <jerror.h>  // its message codes depend on what jpeglib.h defines

#include <algorithm>
#include <string>
#include <vector>

#include "codecs.h"
#include "mmkd/base/error.h"

// JPEG by libjpeg-turbo: OpenCV's decoder takes truncated files without a word and converts CMYK by another formula.
namespace mmkd::codecs {
namespace {

// A small progressive file can ask for as many passes over a large picture as it has bytes; encoders write about ten.
constexpr int max_scans = 500;

/// libjpeg's C interface. Its errors arrive through longjmp, so every function that calls into it and that could be
/// left that way holds no objects with destructors.
class Decoder {
 public:
  explicit Decoder(std::span<const std::byte> encoded) {
    info_.err = jpeg_std_error(&errors_);
    info_.client_data = this;
    errors_.error_exit = &Decoder::on_error;
    errors_.emit_message = &Decoder::on_message;
    if (setjmp(jump_) != 0) return;
    jpeg_create_decompress(&info_);
    jpeg_mem_src(&info_, reinterpret_cast<const unsigned char*>(encoded.data()), encoded.size());
    progress_.progress_monitor = &Decoder::on_progress;
    info_.progress = &progress_;
    created_ = true;
  }
  ~Decoder() { jpeg_destroy_decompress(&info_); }
  Decoder(const Decoder&) = delete;
  Decoder& operator=(const Decoder&) = delete;

  /// False: see message().
  bool read_header() {
    if (!created_ || setjmp(jump_) != 0) return false;
    jpeg_read_header(&info_, TRUE);
    return true;
  }

  /// `out`: [height, width, 3]; `cmyk`: [width, 4], used for pictures of four components only.
  bool read_pixels(std::uint8_t* out, std::uint8_t* cmyk) {
    if (setjmp(jump_) != 0) return false;
    info_.out_color_space = info_.num_components == 4 ? JCS_CMYK : JCS_RGB;
    jpeg_start_decompress(&info_);
    while (info_.output_scanline < info_.output_height) {
      std::uint8_t* rgb = out + std::size_t{info_.output_scanline} * info_.output_width * 3;
      JSAMPROW row = info_.num_components == 4 ? cmyk : rgb;
      jpeg_read_scanlines(&info_, &row, 1);
      if (row == cmyk) inverted_cmyk_to_rgb(cmyk, rgb, info_.output_width);
    }
    jpeg_finish_decompress(&info_);
    return true;
  }

  std::uint32_t width() const { return info_.image_width; }
  std::uint32_t height() const { return info_.image_height; }
  int components() const { return info_.num_components; }
  const char* message() const { return message_; }

 private:
  /// Files from Adobe's programs, the only ones in use, hold 255 - ink. Pillow's formula: integer, rounded.
  static void inverted_cmyk_to_rgb(const std::uint8_t* cmyk, std::uint8_t* rgb, std::uint32_t width) {
    for (std::uint32_t x = 0; x < width; ++x, cmyk += 4, rgb += 3) {
      const int white = cmyk[3];  // 255 - black
      for (int c = 0; c < 3; ++c) {
        const int ink = 255 - cmyk[c];
        rgb[c] = static_cast<std::uint8_t>(std::max(white - (ink * white + 127) / 255, 0));
      }
    }
  }

  [[noreturn]] void leave() {
    errors_.format_message(reinterpret_cast<j_common_ptr>(&info_), message_);
    std::longjmp(jump_, 1);
  }

  static void on_error(j_common_ptr info) { static_cast<Decoder*>(info->client_data)->leave(); }

  /// Warnings about missing or damaged pixels are errors here (libjpeg would fill in grey); others, such as stray bytes
  /// between markers, are harmless and common.
  static void on_message(j_common_ptr info, int level) {
    if (level >= 0) return;  // trace output
    switch (info->err->msg_code) {
      case JWRN_JPEG_EOF:
      case JWRN_HIT_MARKER:
      case JWRN_HUFF_BAD_CODE:
      case JWRN_ARITH_BAD_CODE:
      case JWRN_MUST_RESYNC:
        static_cast<Decoder*>(info->client_data)->leave();
      default:
        break;
    }
  }

  static void on_progress(j_common_ptr info) {
    auto* self = static_cast<Decoder*>(info->client_data);
    if (self->info_.input_scan_number <= max_scans) return;
    std::snprintf(self->message_, sizeof self->message_, "more than %d scans", max_scans);
    std::longjmp(self->jump_, 1);
  }

  jpeg_decompress_struct info_{};
  jpeg_error_mgr errors_{};
  jpeg_progress_mgr progress_{};
  std::jmp_buf jump_{};
  bool created_ = false;
  char message_[JMSG_LENGTH_MAX] = "";
};

}  // namespace

Image decode_jpeg(std::span<const std::byte> encoded, std::string_view name, std::int64_t max_pixels) {
  Decoder decoder(encoded);
  if (!decoder.read_header()) throw Error("{}: damaged or truncated JPEG: {}", name, decoder.message());
  check_size(decoder.width(), decoder.height(), max_pixels, name);
  if (decoder.components() != 1 && decoder.components() != 3 && decoder.components() != 4) {
    throw Error("{}: a JPEG of {} components; 1 (grey), 3 (RGB) and 4 (CMYK) are known", name, decoder.components());
  }
  Image image{decoder.height(), decoder.width(), {}, decoder.components() == 1};
  image.rgb.resize(std::size_t{decoder.width()} * decoder.height() * 3);
  std::vector<std::uint8_t> cmyk(decoder.components() == 4 ? std::size_t{decoder.width()} * 4 : 0);
  if (!decoder.read_pixels(image.rgb.data(), cmyk.data())) {
    throw Error("{}: damaged or truncated JPEG: {}", name, decoder.message());
  }
  return image;
}

}  // namespace mmkd::codecs
