#pragma once
#include <cstddef>
#include <string_view>

namespace mmkd::utf8 {

constexpr char32_t invalid = 0xFFFFFFFF;

struct CodePoint {
  char32_t value;    ///< or `invalid`: the byte belongs to no well-formed sequence
  std::size_t size;  ///< bytes taken; 1 where invalid
};

/// The first code point of `text`, which must not be empty. Well-formed means Unicode's table 3-7: no overlong forms,
/// no surrogates, nothing above U+10FFFF.
inline CodePoint decode(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const char32_t first = byte(0);
  if (first < 0x80) return {first, 1};
  const std::size_t size = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  if (first < 0xC2 || first > 0xF4 || text.size() < size) return {invalid, 1};
  char32_t value = first & (0xFFU >> (size + 1));
  for (std::size_t i = 1; i < size; ++i) {
    if ((byte(i) & 0xC0U) != 0x80) return {invalid, 1};
    value = value << 6 | (byte(i) & 0x3FU);
  }
  const bool overlong = (size == 3 && value < 0x800) || (size == 4 && value < 0x10000);
  const bool surrogate = value >= 0xD800 && value <= 0xDFFF;
  if (overlong || surrogate || value > 0x10FFFF) return {invalid, 1};
  return {value, size};
}

/// Writes the 1 to 4 bytes of a valid code point to `out`; returns how many.
inline std::size_t encode(char32_t code_point, char* out) {
  const auto put = [&](std::size_t i, char32_t byte) { out[i] = static_cast<char>(byte); };
  const auto continuation = [&](int shift) { return 0x80 | (code_point >> shift & 0x3F); };
  if (code_point < 0x80) {
    put(0, code_point);
    return 1;
  }
  if (code_point < 0x800) {
    put(0, 0xC0 | code_point >> 6);
    put(1, continuation(0));
    return 2;
  }
  if (code_point < 0x10000) {
    put(0, 0xE0 | code_point >> 12);
    put(1, continuation(6));
    put(2, continuation(0));
    return 3;
  }
  put(0, 0xF0 | code_point >> 18);
  put(1, continuation(12));
  put(2, continuation(6));
  put(3, continuation(0));
  return 4;
}

inline bool is_valid(std::string_view text) {
  while (!text.empty()) {
    const auto next = decode(text);
    if (next.value == invalid) return false;
    text.remove_prefix(next.size);
  }
  return true;
}

}  // namespace mmkd::utf8
