#include "mmkd/image/augment.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

namespace mmkd {
namespace {

AugmentConfig everything() {
  AugmentConfig config;
  config.views = 4;
  config.horizontal_flip = 0.5;
  config.min_scale = 0.3;
  config.brightness = 0.2;
  config.contrast = 0.3;
  config.saturation = 0.4;
  return config;
}

/// Every pixel differs from its neighbours.
Image gradient(std::int64_t height, std::int64_t width) {
  Image image{.height = height, .width = width, .rgb = {}};
  for (std::int64_t y = 0; y < height; ++y) {
    for (std::int64_t x = 0; x < width; ++x) {
      image.rgb.push_back(static_cast<std::uint8_t>(10 * x % 256));
      image.rgb.push_back(static_cast<std::uint8_t>(10 * y % 256));
      image.rgb.push_back(static_cast<std::uint8_t>((x + y) % 256));
    }
  }
  return image;
}

TEST(DrawView, DependsOnSeedSampleAndViewAlone) {
  const auto config = everything();
  const auto view = draw_view(config, 1, 2, 3);
  EXPECT_EQ(view, draw_view(config, 1, 2, 3));
  EXPECT_NE(view, draw_view(config, 2, 2, 3));
  EXPECT_NE(view, draw_view(config, 1, 3, 3));
  EXPECT_NE(view, draw_view(config, 1, 2, 4));
}

TEST(DrawView, StaysInsideThePictureAndItsRanges) {
  const auto config = everything();
  std::int64_t flipped = 0;
  constexpr std::int64_t kViews = 2000;
  for (std::int64_t i = 0; i < kViews; ++i) {
    const auto view = draw_view(config, 7, static_cast<std::uint64_t>(i), 0);
    ASSERT_GE(view.top, 0);
    ASSERT_GE(view.left, 0);
    ASSERT_LE(view.top + view.height, 1 + 1e-12);
    ASSERT_LE(view.left + view.width, 1 + 1e-12);
    const double area = view.height * view.width, ratio = view.width / view.height;
    ASSERT_GE(area, config.min_scale - 1e-12);
    ASSERT_LE(std::abs(std::log(ratio)), std::log(config.max_ratio) + 1e-12);
    ASSERT_LE(std::abs(view.brightness - 1), config.brightness);
    ASSERT_LE(std::abs(view.contrast - 1), config.contrast);
    ASSERT_LE(std::abs(view.saturation - 1), config.saturation);
    flipped += view.flipped ? 1 : 0;
  }
  EXPECT_NEAR(static_cast<double>(flipped) / kViews, 0.5, 0.05);
}

TEST(DrawView, OfNothingConfiguredIsThePictureItself) {
  AugmentConfig config;
  config.views = 2;
  const auto view = draw_view(config, 1, 2, 3);
  EXPECT_EQ(view, AugmentedView{});
  const auto image = gradient(7, 5);
  EXPECT_EQ(apply_view(image, view).rgb, image.rgb);
}

TEST(ApplyView, KeepsTheSize) {
  const auto image = gradient(24, 17);
  for (std::int64_t v = 0; v < 20; ++v) {
    const auto seen = apply_view(image, draw_view(everything(), 3, 4, v));
    EXPECT_EQ(seen.height, image.height);
    EXPECT_EQ(seen.width, image.width);
    EXPECT_EQ(seen.rgb.size(), image.rgb.size());
  }
}

TEST(ApplyView, FlippedTwiceIsThePicture) {
  const auto image = gradient(6, 9);
  AugmentedView mirrored;
  mirrored.flipped = true;
  const auto once = apply_view(image, mirrored);
  EXPECT_NE(once.rgb, image.rgb);
  EXPECT_EQ(once.rgb[0], image.rgb[8 * 3]);  // the first pixel is the row's last
  EXPECT_EQ(apply_view(once, mirrored).rgb, image.rgb);
}

TEST(ApplyView, ShowsTheChosenPart) {
  // Left half black, right half white: the right half alone is white.
  Image image{.height = 8, .width = 8, .rgb = {}};
  for (int i = 0; i < 64; ++i) image.rgb.insert(image.rgb.end(), 3, i % 8 < 4 ? 0 : 255);
  AugmentedView right;
  right.left = 0.5;
  right.width = 0.5;
  const auto seen = apply_view(image, right);
  EXPECT_TRUE(std::all_of(seen.rgb.begin(), seen.rgb.end(), [](auto v) { return v == 255; }));
}

TEST(ApplyView, ChangesColoursAsPillowDoes) {
  // ImageEnhance.Brightness/Contrast/Color of Pillow 12 on this pixel row.
  Image image{.height = 1, .width = 2, .rgb = {200, 100, 50, 10, 20, 30}};
  AugmentedView bright;
  bright.brightness = 1.5;
  EXPECT_EQ(apply_view(image, bright).rgb, (std::vector<std::uint8_t>{255, 150, 75, 15, 30, 45}));
  AugmentedView grey;
  grey.saturation = 0;
  EXPECT_EQ(apply_view(image, grey).rgb, (std::vector<std::uint8_t>{124, 124, 124, 18, 18, 18}));
  AugmentedView flat;
  flat.contrast = 0;
  EXPECT_EQ(apply_view(image, flat).rgb, (std::vector<std::uint8_t>(6, 71)));
  // Pillow cuts the fraction off where it blends, this rounds: one step at most.
  const auto near_pillow = [&](const AugmentedView& view, const std::vector<int>& want) {
    const auto got = apply_view(image, view).rgb;
    for (std::size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], want[i], 1) << i;
  };
  AugmentedView soft, vivid;
  soft.contrast = 0.7;
  vivid.saturation = 1.3;
  near_pillow(soft, {161, 91, 56, 28, 35, 42});
  near_pillow(vivid, {222, 92, 27, 7, 20, 33});
}

}  // namespace
}  // namespace mmkd
