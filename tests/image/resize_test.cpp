#include <gtest/gtest.h>

#include <map>

#include "mmkd/base/error.h"
#include "tests/image/pictures.h"

namespace mmkd::test {
namespace {

using Bytes = std::vector<std::uint8_t>;

struct Size {
  std::int64_t height, width;
};

TEST(Resize, BilinearWeightsGrowWhenThePictureShrinks) {
  // 4 -> 2: a triangle of half-width 2 around 1 and 3, so 3/7, 3/7, 1/7 and its mirror image.
  EXPECT_EQ(reds(resize(row({0, 70, 140, 210}), 1, 2, Resample::bilinear)), (Bytes{50, 160}));
}

TEST(Resize, BoxAveragesWholePixels) {
  EXPECT_EQ(reds(resize(row({10, 20, 30, 50}), 1, 2, Resample::box)), (Bytes{15, 40}));
}

TEST(Resize, RoundsHalvesUp) { EXPECT_EQ(reds(resize(row({10, 11}), 1, 1, Resample::box)), (Bytes{11})); }

TEST(Resize, NearestAddsUpTheScaleAsPillowDoes) {
  // 8 -> 6: (4 + 0.5) * 8 / 6 = 6, but 0.5 * 8 / 6 with 8 / 6 added four times falls short of it.
  EXPECT_EQ(reds(resize(row({0, 1, 2, 3, 4, 5, 6, 7}), 1, 6, Resample::nearest)), (Bytes{0, 2, 3, 4, 5, 7}));
}

TEST(Resize, EqualsPillowInEveryFilter) {
  // Image.fromarray(row).resize((4, 1), filter) and (10, 1), Pillow 13.0.0.
  const std::map<Resample, std::pair<Bytes, Bytes>> pillow{
      {Resample::nearest, {{0, 30, 90, 140}, {0, 255, 255, 30, 200, 200, 90, 17, 17, 140}}},
      {Resample::lanczos, {{106, 144, 98, 75}, {0, 157, 230, 34, 133, 199, 81, 8, 73, 152}}},
      {Resample::bilinear, {{111, 123, 106, 85}, {0, 140, 199, 41, 141, 162, 86, 35, 72, 140}}},
      {Resample::bicubic, {{110, 130, 105, 80}, {0, 150, 223, 33, 145, 181, 85, 21, 70, 147}}},
      {Resample::box, {{128, 115, 90, 79}, {0, 255, 255, 30, 200, 200, 90, 17, 17, 140}}},
      {Resample::hamming, {{106, 93, 108, 89}, {0, 157, 238, 31, 167, 179, 90, 23, 64, 140}}}};
  const Image source = row({0, 255, 30, 200, 90, 17, 140});
  for (const auto& [filter, expected] : pillow) {
    EXPECT_EQ(reds(resize(source, 1, 4, filter)), expected.first) << static_cast<int>(filter);
    EXPECT_EQ(reds(resize(source, 1, 10, filter)), expected.second) << static_cast<int>(filter);
  }
}

TEST(Resize, TreatsRowsLikeColumns) {
  const Image wide = noise(1, 37, 1);
  const Image tall{37, 1, wide.rgb};
  for (const auto filter : all_filters) {
    for (const std::int64_t length : {1, 9, 36, 80}) {
      EXPECT_EQ(resize(wide, 1, length, filter).rgb, resize(tall, length, 1, filter).rgb);
    }
  }
}

TEST(Resize, GoesDownTheColumnsFirstWhereThatRemovesMoreThanTwiceAsMuch) {
  const auto vertical_first = [](const Image& image, Size to) {
    return resize(resize(image, to.height, image.width, Resample::bicubic), to.height, to.width, Resample::bicubic).rgb;
  };
  const auto horizontal_first = [](const Image& image, Size to) {
    return resize(resize(image, image.height, to.width, Resample::bicubic), to.height, to.width, Resample::bicubic).rgb;
  };
  const Image taller = noise(31, 20, 2), less_tall = noise(30, 20, 2);
  const Size to{10, 10};
  ASSERT_NE(vertical_first(taller, to), horizontal_first(taller, to));
  ASSERT_NE(vertical_first(less_tall, to), horizontal_first(less_tall, to));
  EXPECT_EQ(resize(taller, 10, 10, Resample::bicubic).rgb, vertical_first(taller, to));          // 21 > 2 * 10
  EXPECT_EQ(resize(less_tall, 10, 10, Resample::bicubic).rgb, horizontal_first(less_tall, to));  // 20 = 2 * 10
  EXPECT_EQ(resize(less_tall, 29, 40, Resample::bicubic).rgb, vertical_first(less_tall, {29, 40}));
  EXPECT_EQ(resize(less_tall, 40, 10, Resample::bicubic).rgb, horizontal_first(less_tall, {40, 10}));
}

TEST(Resize, KeepsAConstantPictureConstant) {
  for (const int value : {0, 1, 127, 254, 255}) {
    const Image image{13, 29, Bytes(std::size_t{13} * 29 * 3, static_cast<std::uint8_t>(value))};
    for (const auto filter : all_filters) {
      for (const auto& [height, width] : {Size{5, 7}, Size{40, 31}, Size{1, 1}, Size{13, 90}}) {
        const Image resized = resize(image, height, width, filter);
        EXPECT_EQ(resized.rgb, Bytes(static_cast<std::size_t>(height * width * 3), static_cast<std::uint8_t>(value)));
      }
    }
  }
}

TEST(Resize, ToTheSameSizeIsTheIdentity) {
  const Image image = noise(9, 14, 3);
  for (const auto filter : all_filters) EXPECT_EQ(resize(image, 9, 14, filter).rgb, image.rgb);
}

TEST(Resize, GivesTheSamePixelsWhereOneChannelStandsForThree) {
  for (const auto& [height, width] : {Size{60, 41}, Size{33, 130}, Size{1, 17}, Size{7, 1}}) {
    Image image = noise(height, width, 8);
    for (std::size_t i = 0; i < image.rgb.size(); i += 3) image.rgb[i + 1] = image.rgb[i + 2] = image.rgb[i];
    Image known = image;
    known.grey = true;
    for (const auto filter : all_filters) {
      for (const auto& to : {Size{24, 20}, Size{20, 24}, Size{90, 7}, Size{height, 50}, Size{50, width}, Size{16, 16},
                             Size{height, width}}) {
        const Image resized = resize(known, to.height, to.width, filter);
        EXPECT_TRUE(resized.grey);
        EXPECT_EQ(resized.rgb, resize(image, to.height, to.width, filter).rgb);
      }
    }
  }
}

TEST(Resize, RejectsEmptySizes) {
  EXPECT_THROW(resize(noise(4, 4, 4), 0, 4, Resample::bilinear), Error);
  EXPECT_THROW(resize(noise(4, 4, 4), 4, -1, Resample::bilinear), Error);
  EXPECT_THROW(resize(Image{}, 4, 4, Resample::bilinear), Error);
}

TEST(CenterCrop, LeavesTheOddPixelAtTheEnd) {
  EXPECT_EQ(reds(center_crop(row({0, 1, 2, 3, 4}), 1, 2)), (Bytes{1, 2}));  // starts at floor(3 / 2)
  EXPECT_EQ(reds(center_crop(row({0, 1, 2, 3, 4}), 1, 5)), (Bytes{0, 1, 2, 3, 4}));
}

TEST(CenterCrop, PadsWithZerosAndTheOddOneInFront) {
  EXPECT_EQ(reds(center_crop(row({7, 8}), 1, 5)), (Bytes{0, 0, 7, 8, 0}));
  const Image padded = center_crop(row({7, 8, 9}), 2, 1);  // cropped in width, padded in height
  EXPECT_EQ(reds(padded), (Bytes{0, 8}));
}

TEST(CenterCrop, RejectsEmptySizes) { EXPECT_THROW(center_crop(noise(4, 4, 5), 0, 2), Error); }

TEST(ApplyPolicy, ComputesOnlyTheCropAndGetsTheSamePixels) {
  for (const auto filter : all_filters) {
    for (const auto& [height, width] : {Size{60, 41}, Size{41, 60}, Size{30, 30}, Size{7, 90}, Size{24, 20}}) {
      const Image image = noise(height, width, 6);
      for (const auto& [crop_height, crop_width] :
           {Size{16, 16}, Size{24, 20}, Size{1, 30}, Size{33, 9}, Size{40, 50}}) {
        ImagePolicy policy;
        policy.height = 24, policy.width = 20;
        policy.resample = filter;
        const Image resized = apply_policy(image, policy);
        EXPECT_EQ(resized.rgb, resize(image, 24, 20, filter).rgb);
        policy.do_center_crop = true;
        policy.crop_height = crop_height, policy.crop_width = crop_width;
        EXPECT_EQ(apply_policy(image, policy).rgb, center_crop(resized, crop_height, crop_width).rgb);
      }
    }
  }
}

TEST(ApplyPolicy, ResizesTheShortestEdgeAndTruncatesTheLongOne) {
  ImagePolicy policy;
  policy.shortest_edge = 10;
  const Image wide = apply_policy(noise(30, 50, 7), policy);
  EXPECT_EQ(wide.height, 10);
  EXPECT_EQ(wide.width, 16);  // int(16.67)
  const Image tall = apply_policy(noise(50, 30, 7), policy);
  EXPECT_EQ(tall.height, 16);
  EXPECT_EQ(tall.width, 10);
  EXPECT_EQ(apply_policy(noise(30, 30, 7), policy).width, 10);
}

TEST(ApplyPolicy, MakesALongStripOnlyWhereTheCropNeedsIt) {
  // Resized as a whole it would have 100 million columns.
  ImagePolicy policy;
  policy.shortest_edge = 1000;
  policy.do_center_crop = true;
  policy.crop_height = policy.crop_width = 8;
  const Image cropped = apply_policy(Image{1, 100'000, Bytes(300'000, 9)}, policy);
  EXPECT_EQ(cropped.rgb, Bytes(std::size_t{8} * 8 * 3, 9));
}

TEST(ApplyPolicy, WithoutResizeAndCropChangesNothing) {
  ImagePolicy policy;
  policy.do_resize = false;
  const Image image = noise(5, 6, 8);
  EXPECT_EQ(apply_policy(image, policy).rgb, image.rgb);
}

}  // namespace
}  // namespace mmkd::test
