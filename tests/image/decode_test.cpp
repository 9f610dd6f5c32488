#include <gtest/gtest.h>

#include "mmkd/base/error.h"
#include "tests/image/pictures.h"

namespace mmkd::test {
namespace {

using Bytes = std::vector<std::uint8_t>;

/// The message of the Error that decoding throws; "" if it doesn't.
std::string decode_error(std::string_view encoded, std::int64_t max_pixels = 1 << 20) {
  try {
    decode_image(bytes_of(encoded), "broken.img", max_pixels);
    return "";
  } catch (const Error& error) {
    return error.what();
  }
}

TEST(DecodePng, KeepsRgbAndItsOrder) {
  const Image image = decode(Png{2, 1, 8, 2, raw({0, 1, 2, 3, 250, 251, 252})}.encode());
  EXPECT_EQ(image.height, 1);
  EXPECT_EQ(image.width, 2);
  EXPECT_EQ(image.rgb, (Bytes{1, 2, 3, 250, 251, 252}));
}

TEST(DecodePng, SpreadsGreyOfFewBitsOverTheWholeRange) {
  EXPECT_EQ(reds(decode(Png{4, 1, 1, 0, raw({0, 0b01010000})}.encode())), (Bytes{0, 255, 0, 255}));
  EXPECT_EQ(reds(decode(Png{4, 1, 2, 0, raw({0, 0b00011011})}.encode())), (Bytes{0, 85, 170, 255}));
  EXPECT_EQ(reds(decode(Png{2, 1, 4, 0, raw({0, 0x7F})}.encode())), (Bytes{119, 255}));
}

TEST(DecodePng, LooksColoursUpInThePaletteAndTakesBlackBeyondIt) {
  const std::string palette = chunk("PLTE", raw({10, 20, 30, 40, 50, 60}));
  EXPECT_EQ(decode(Png{3, 1, 8, 3, raw({0, 1, 0, 200}), palette}.encode()).rgb,
            (Bytes{40, 50, 60, 10, 20, 30, 0, 0, 0}));
  EXPECT_EQ(decode(Png{2, 1, 1, 3, raw({0, 0b01000000}), palette}.encode()).rgb, (Bytes{10, 20, 30, 40, 50, 60}));
}

TEST(DecodePng, DropsAlphaWithoutBlending) {
  EXPECT_EQ(decode(Png{1, 1, 8, 6, raw({0, 9, 8, 7, 0})}.encode()).rgb, (Bytes{9, 8, 7}));
  EXPECT_EQ(decode(Png{1, 1, 8, 4, raw({0, 77, 0})}.encode()).rgb, (Bytes{77, 77, 77}));
  const std::string transparent = chunk("PLTE", raw({10, 20, 30})) + chunk("tRNS", raw({0}));
  EXPECT_EQ(decode(Png{1, 1, 8, 3, raw({0, 0}), transparent}.encode()).rgb, (Bytes{10, 20, 30}));
}

TEST(DecodePng, TakesTheUpperBytesOf16BitColours) {
  EXPECT_EQ(decode(Png{1, 1, 16, 2, raw({0, 0x12, 0xFF, 0x34, 0x80, 0x56, 0x7F})}.encode()).rgb,
            (Bytes{0x12, 0x34, 0x56}));
  EXPECT_EQ(decode(Png{1, 1, 16, 4, raw({0, 0x12, 0xFF, 0, 0})}.encode()).rgb, (Bytes{0x12, 0x12, 0x12}));
}

TEST(DecodePng, Scales16BitGreyFromTheBitsInUse) {
  // 255 needs 8 bits, 4095 needs 12, 65535 needs 16; the largest value of each range becomes 255.
  EXPECT_EQ(reds(decode(Png{3, 1, 16, 0, raw({0, 0, 0, 0, 100, 0, 255})}.encode())), (Bytes{0, 100, 255}));
  EXPECT_EQ(reds(decode(Png{3, 1, 16, 0, raw({0, 0x0F, 0xFF, 0x08, 0x00, 0x00, 0x10})}.encode())),
            (Bytes{255, 128, 1}));
  EXPECT_EQ(reds(decode(Png{3, 1, 16, 0, raw({0, 0xFF, 0xFF, 0x80, 0x80, 0x00, 0xFF})}.encode())),
            (Bytes{255, 128, 1}));
}

TEST(DecodePng, IgnoresGammaTransparencyAndText) {
  Png png{2, 1, 8, 2, raw({0, 1, 2, 3, 100, 150, 200})};
  const Image plain = decode(png.encode());
  png.before_pixels = chunk("gAMA", big_endian32(10000)) + chunk("tRNS", raw({0, 1, 0, 2, 0, 3})) +
                      chunk("tEXt", raw({'a', 0, 'b'})) + chunk("iCCP", "not a profile");
  EXPECT_EQ(decode(png.encode()).rgb, plain.rgb);
}

TEST(DecodePng, FindsEveryFlippedByte) {
  const std::string png = Png{2, 2, 8, 3, raw({0, 1, 0, 0, 0, 1}), chunk("PLTE", raw({1, 2, 3, 4, 5, 6}))}.encode();
  ASSERT_EQ(decode_error(png), "");
  for (std::size_t i = 0; i < png.size(); ++i) {
    std::string damaged = png;
    damaged[i] = static_cast<char>(damaged[i] ^ 0x10);
    EXPECT_TRUE(starts_with(decode_error(damaged), "broken.img: ")) << "byte " << i;
  }
}

TEST(DecodePng, RejectsTooFewPixelsBehindValidChecksums) {
  EXPECT_TRUE(contains(decode_error(Png{4, 4, 8, 0, raw({0, 1, 2, 3, 4})}.encode()), "too few"));
}

TEST(DecodePng, RejectsStructuresThatDoNotExist) {
  EXPECT_TRUE(contains(decode_error(Png{1, 1, 3, 0, raw({0, 0})}.encode()), "bit depth 3"));
  EXPECT_TRUE(contains(decode_error(Png{1, 1, 16, 3, raw({0, 0, 0})}.encode()), "colour type 3"));
  EXPECT_TRUE(contains(decode_error(Png{1, 1, 8, 3, raw({0, 0})}.encode()), "no PLTE"));
  EXPECT_TRUE(contains(decode_error(Png{1, 1, 8, 3, raw({0, 0}), chunk("PLTE", raw({1, 2}))}.encode()), "PLTE"));
  EXPECT_TRUE(contains(decode_error(Png{1, 1, 8, 0, raw({0, 0}), chunk("QQQQ", "")}.encode()), "QQQQ"));
  EXPECT_TRUE(contains(decode_error(png_signature + chunk("IDAT", "")), "IHDR"));
  EXPECT_TRUE(contains(decode_error(png_signature + Png{}.header() + chunk("IEND", "")), "no IDAT"));
}

TEST(DecodePng, RefusesHugeSizesBeforeItReadsOn) {
  const std::string bomb = png_signature + Png{0x7FFF'FFFF, 0x7FFF'FFFF, 8, 2, ""}.header();
  EXPECT_TRUE(contains(decode_error(bomb), "2147483647x2147483647"));
  EXPECT_TRUE(contains(decode_error(png_signature + Png{1'000'001, 1, 8, 2, ""}.header()), "1000000 a side"));
  EXPECT_TRUE(contains(decode_error(png_signature + Png{0, 5, 8, 2, ""}.header()), "empty"));
}

TEST(DecodeJpeg, RefusesHugeSizesBeforeItReadsOn) {
  std::string jpeg = case_file("image-jpeg-gray/image.jpg");
  const auto frame = jpeg.find(raw({0xFF, 0xC0, 0, 11, 8}));  // start of frame: length, precision, height, width
  ASSERT_NE(frame, std::string::npos);
  jpeg.replace(frame + 5, 4, raw({0xFF, 0xDC, 0xFF, 0xDC}));
  EXPECT_TRUE(contains(decode_error(jpeg), "65500x65500"));
}

TEST(DecodeJpeg, ConvertsAndSizesAsTheFrameSaysIgnoringTheOrientation) {
  const Image turned = decode(case_file("image-jpeg-orientation-6/image.jpg"));
  EXPECT_EQ(turned.width, 70);
  EXPECT_EQ(turned.height, 40);
  const Image gray = decode(case_file("image-jpeg-gray/image.jpg"));
  for (std::size_t i = 0; i < gray.rgb.size(); i += 3) {
    ASSERT_EQ(gray.rgb[i], gray.rgb[i + 1]);
    ASSERT_EQ(gray.rgb[i], gray.rgb[i + 2]);
  }
}

TEST(DecodeJpeg, RejectsPixelsThatEndEarlyBehindAnEndMarker) {
  const std::string jpeg = case_file("image-jpeg-gray/image.jpg");
  for (const auto part : {jpeg.size() / 2, jpeg.size() - 40}) {
    EXPECT_TRUE(contains(decode_error(jpeg.substr(0, part) + raw({0xFF, 0xD9})), "JPEG")) << part;
  }
}

TEST(DecodeJpeg, SurvivesAnyFlippedByte) {
  const std::string jpeg = case_file("image-jpeg-gray/image.jpg");
  int rejected = 0;
  for (std::size_t i = 0; i < jpeg.size(); ++i) {
    std::string damaged = jpeg;
    damaged[i] = static_cast<char>(damaged[i] ^ 0x10);
    const std::string error = decode_error(damaged);  // anything but Error ends the test
    rejected += error.empty() ? 0 : 1;
  }
  EXPECT_GT(rejected, 0);
}

TEST(DecodeImage, RejectsEveryTruncation) {
  for (const char* file :
       {"image-one-pixel/image.png", "image-bilevel/image.png", "image-palette/image.png", "image-gray16-low/image.png",
        "image-upscale-bicubic/image.png", "image-jpeg-gray/image.jpg", "image-jpeg-orientation-6/image.jpg",
        "image-jpeg-420-progressive/image.jpg", "image-jpeg-cmyk/image.jpg"}) {
    const std::string whole = case_file(file);
    ASSERT_EQ(decode_error(whole), "") << file;
    for (std::size_t size = 0; size < whole.size(); ++size) {
      ASSERT_TRUE(starts_with(decode_error(whole.substr(0, size)), "broken.img: ")) << file << " cut to " << size;
    }
  }
}

TEST(DecodeImage, IgnoresBytesBehindTheEndOfThePicture) {
  for (const char* file : {"image-bilevel/image.png", "image-jpeg-gray/image.jpg"}) {
    const std::string whole = case_file(file);
    EXPECT_EQ(decode(whole + "trailing bytes").rgb, decode(whole).rgb) << file;
  }
}

TEST(DecodeImage, AllowsExactlyTheLimitOfPixels) {
  const std::string png = Png{3, 2, 8, 0, raw({0, 1, 2, 3, 0, 4, 5, 6})}.encode();
  EXPECT_EQ(decode_error(png, 6), "");
  EXPECT_TRUE(contains(decode_error(png, 5), "limit of 5"));
  EXPECT_TRUE(contains(decode_error(png, -1), "limit"));
}

TEST(DecodeImage, NamesTheFirstBytesOfOtherFormats) {
  EXPECT_TRUE(contains(decode_error("GIF89a"), "47 49 46 38 39 61"));
  EXPECT_TRUE(contains(decode_error(""), "empty"));
}

}  // namespace
}  // namespace mmkd::test
