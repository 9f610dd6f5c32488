#include "mmkd/data/preview.h"

#include <gtest/gtest.h>

#include "mmkd/base/error.h"
#include "mmkd/base/files.h"
#include "tests/data/small_set.h"

namespace mmkd {
namespace {

Image drawn(const fs::path& file) {
  const auto bytes = test::read_plain(file);
  return decode_image(std::as_bytes(std::span(bytes)), file.string());
}

TEST(Preview, ShowsPicturesAsTheStudentSeesThem) {
  test::SmallSet set;
  PreviewOptions options;
  options.samples = 100;  // all 12 of them
  options.output = set.folder / "preview.png";
  write_preview(set.config, options);
  const auto sheet = drawn(options.output);
  constexpr std::int64_t kCellWidth = 248, kCellHeight = 360, kMargin = 12, kPicture = 224;
  ASSERT_EQ(sheet.width, 4 * kCellWidth);
  ASSERT_EQ(sheet.height, 3 * kCellHeight);
  // The sixth sample: second column of the second row. Its 8 x 8 pixels are blocks of 28.
  const auto encoded = test::read_plain(set.folder / ("data/" + set.train[5].image));
  const auto seen = apply_policy(decode_image(std::as_bytes(std::span(encoded)), "train5"), vit_policy(8));
  for (const std::int64_t y : {0, 3, 7}) {
    for (const std::int64_t x : {0, 5, 7}) {
      const auto at_x = kCellWidth + kMargin + x * (kPicture / 8) + 14;
      const auto at_y = kCellHeight + kMargin + y * (kPicture / 8) + 14;
      for (std::int64_t c = 0; c < 3; ++c)
        EXPECT_EQ(sheet.rgb[static_cast<std::size_t>((at_y * sheet.width + at_x) * 3 + c)],
                  seen.rgb[static_cast<std::size_t>((y * 8 + x) * 3 + c)])
            << y << " " << x << " " << c;
    }
  }
  // Something is written below the picture: id, two labels, text.
  int dark = 0;
  for (std::int64_t y = kMargin + kPicture; y < kCellHeight; ++y) {
    for (std::int64_t x = 0; x < kCellWidth; ++x)
      dark += sheet.rgb[static_cast<std::size_t>((y * sheet.width + x) * 3 + 1)] < 128 ? 1 : 0;
  }
  EXPECT_GT(dark, 100);
}

TEST(Preview, IsAFunctionOfTheSeed) {
  test::SmallSet set;
  PreviewOptions options;
  options.samples = 3;
  std::vector<std::string> sheets;
  for (const std::int64_t seed : {0, 0, 1}) {
    options.seed = seed;
    options.output = set.folder / ("preview" + std::to_string(sheets.size()) + ".png");
    write_preview(set.config, options);
    sheets.push_back(test::read_plain(options.output));
  }
  EXPECT_EQ(sheets[0], sheets[1]);
  EXPECT_NE(sheets[0], sheets[2]);
}

TEST(Preview, RefusesWhatItCannotDraw) {
  test::SmallSet set;
  PreviewOptions options;
  options.output = set.folder / "preview.jpg";
  EXPECT_THROW(write_preview(set.config, options), UsageError);
  options.output = set.folder / "preview.png";
  fs::remove(set.folder / ("data/" + set.train[0].image));
  options.samples = 100;
  EXPECT_THROW(write_preview(set.config, options), Error);
  EXPECT_FALSE(fs::exists(options.output));
}

}  // namespace
}  // namespace mmkd
