#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <string>

#include "mmkd/base/files.h"
#include "mmkd/image/image.h"
#include "tests/parity/arrays.h"
#include "tests/parity/parity.h"

namespace mmkd::parity {
namespace {

Array decoded_size(const Image& image) {
  return {{2}, true, {static_cast<double>(image.height), static_cast<double>(image.width)}};
}

Array channel_sums(const Image& image) {
  Array sums{{3}, true, {0, 0, 0}};
  for (std::size_t i = 0; i < image.rgb.size(); ++i) sums.values[i % 3] += image.rgb[i];
  return sums;
}

/// [1, 3, height, width], in the network's order of channels.
Array pixel_values(const Image& image, const ImagePolicy& policy) {
  const PixelTable table = pixel_table(policy);
  Array result{{1, 3, image.height, image.width}, false, {}};
  for (std::size_t c = 0; c < 3; ++c) {
    const std::size_t source = policy.bgr ? 2 - c : c;
    for (std::size_t i = source; i < image.rgb.size(); i += 3) result.values.push_back(table[c][image.rgb[i]]);
  }
  return result;
}

/// Equal shapes, and no byte further from the expected one than `max_abs`.
void compare_bytes(const std::string& name, const Image& got, const Array& want, double max_abs, Verdict& verdict) {
  ++verdict.compared;
  if (want.shape != std::vector<std::int64_t>{got.height, got.width, 3}) return fail(verdict, name + ": shapes differ");
  for (std::size_t i = 0; i < got.rgb.size(); ++i) {
    if (std::abs(got.rgb[i] - want.values[i]) > max_abs) {
      return fail(verdict, name + "[" + std::to_string(i) + "]: got " + std::to_string(got.rgb[i]) + ", want " +
                               std::to_string(want.values[i]));
    }
  }
}

}  // namespace

Verdict check_image(const Case& c) {
  Verdict verdict;
  const auto file = c.folder / c.config.at("file").get<std::string>();
  const std::string encoded = read_file(file);
  const Image image = decode_image(std::as_bytes(std::span(encoded)), file.string());
  const ImagePolicy policy = read_image_policy(c.folder / "preprocessor_config.json");
  const Image resized = apply_policy(image, policy);

  const auto want = read_arrays(c.folder / "expected.safetensors");
  compare(c, "decoded_size", decoded_size(image), want.at("decoded_size"), verdict);
  if (c.config.at("contract") == "info") return verdict;  // the other values are a record of what Pillow does
  const auto max_abs = c.config.at("uint8_max_abs").get<double>();
  if (max_abs == 0) compare(c, "decoded_sum", channel_sums(image), want.at("decoded_sum"), verdict);
  compare_bytes("resized", resized, want.at("resized"), max_abs, verdict);
  compare(c, "pixel_values", pixel_values(resized, policy), want.at("pixel_values"), verdict);
  return verdict;
}

}  // namespace mmkd::parity
