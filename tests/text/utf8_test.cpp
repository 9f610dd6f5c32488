#include "src/text/utf8.h"

#include <gtest/gtest.h>

#include <array>
#include <string>

namespace mmkd::utf8 {
namespace {

TEST(Utf8, DecodesWhatItEncodesForEveryCodePoint) {
  for (char32_t c = 0; c < 0x110000; ++c) {
    if (c >= 0xD800 && c < 0xE000) continue;
    std::array<char, 4> bytes{};
    const auto size = encode(c, bytes.data());
    ASSERT_EQ(size, c < 0x80 ? 1U : c < 0x800 ? 2U : c < 0x10000 ? 3U : 4U);
    const auto back = decode({bytes.data(), size});
    ASSERT_EQ(back.value, c);
    ASSERT_EQ(back.size, size);
  }
}

TEST(Utf8, WritesTheBytesOfTheStandardsExamples) {
  const auto encoded = [](char32_t c) {
    std::array<char, 4> bytes{};
    return std::string(bytes.data(), encode(c, bytes.data()));
  };
  EXPECT_EQ(encoded(0x4D), "\x4D");
  EXPECT_EQ(encoded(0x430), "\xD0\xB0");
  EXPECT_EQ(encoded(0x4E8C), "\xE4\xBA\x8C");
  EXPECT_EQ(encoded(0x10302), "\xF0\x90\x8C\x82");
}

TEST(Utf8, TakesOneByteOfWhatIsIllFormed) {
  for (const std::string_view text : {"\x80", "\xBF", "\xC0\x80", "\xC1\xBF", "\xC3", "\xC3(", "\xE0\x80\x80",
                                      "\xE0\x9F\xBF", "\xED\xA0\x80", "\xED\xBF\xBF", "\xE2\x82", "\xF0\x8F\xBF\xBF",
                                      "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xFF", "\xF0\x9F\x98"}) {
    const auto next = decode(text);
    EXPECT_EQ(next.value, invalid) << testing::PrintToString(text);
    EXPECT_EQ(next.size, 1U);
    EXPECT_FALSE(is_valid(text));
  }
}

TEST(Utf8, AcceptsWellFormedText) {
  EXPECT_TRUE(is_valid(""));
  EXPECT_TRUE(is_valid("a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80"));
  EXPECT_FALSE(is_valid("abc\xE2\x82"));
}

}  // namespace
}  // namespace mmkd::utf8
