#include <gtest/gtest.h>

#include <span>

#include "mmkd/base/error.h"
#include "mmkd/image/image.h"

namespace mmkd {
namespace {

TEST(EncodeJpeg, KeepsColoursAndSize) {
  Image image{.height = 16, .width = 24, .rgb = {}};
  for (std::int64_t i = 0; i < image.height * image.width; ++i) image.rgb.insert(image.rgb.end(), {200, 100, 50});
  const auto jpeg = encode_jpeg(image, 90);
  const auto back = decode_image(std::as_bytes(std::span(jpeg)), "jpeg");
  ASSERT_EQ(back.height, 16);
  ASSERT_EQ(back.width, 24);
  for (std::size_t i = 0; i < back.rgb.size(); ++i) EXPECT_NEAR(back.rgb[i], image.rgb[i], 3) << i;
}

TEST(EncodeJpeg, RefusesAnEmptyPicture) { EXPECT_THROW(encode_jpeg({}, 90), Error); }

}  // namespace
}  // namespace mmkd
