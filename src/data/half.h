#pragma once
#include <bit>
#include <cstdint>

// IEEE 754 binary16 <-> binary32 (round to nearest, ties to even), for files; tensors convert by themselves.
namespace mmkd {

inline std::uint16_t to_half(float value) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  const auto sign = static_cast<std::uint16_t>((bits >> 16) & 0x8000U);
  const std::uint32_t magnitude = bits & 0x7FFFFFFFU;
  if (magnitude >= 0x7F800000U) return static_cast<std::uint16_t>(sign | (magnitude > 0x7F800000U ? 0x7E00U : 0x7C00U));
  if (magnitude >= 0x477FF000U) return static_cast<std::uint16_t>(sign | 0x7C00U);  // rounds to infinity
  if (magnitude < 0x33000001U) return sign;                                         // rounds to zero
  const auto exponent = static_cast<int>(magnitude >> 23);
  std::uint32_t mantissa = magnitude & 0x7FFFFFU;
  int shift = 13;
  std::uint32_t base = 0;
  if (exponent < 113) {  // subnormal half: the implicit one becomes visible
    mantissa |= 0x800000U;
    shift += 113 - exponent;
  } else {
    base = static_cast<std::uint32_t>(exponent - 112) << 10;
  }
  const std::uint32_t kept = mantissa >> shift;
  const std::uint32_t rest = mantissa & ((1U << shift) - 1U);
  const std::uint32_t half = 1U << (shift - 1);
  const std::uint32_t up = rest > half || (rest == half && (kept & 1U) != 0) ? 1U : 0U;
  return static_cast<std::uint16_t>(sign | (base + kept + up));  // a carry runs into the exponent, as it should
}

inline float from_half(std::uint16_t value) {
  const std::uint32_t sign = static_cast<std::uint32_t>(value & 0x8000U) << 16;
  const std::uint32_t exponent = (value >> 10) & 0x1FU;
  const std::uint32_t mantissa = value & 0x3FFU;
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7F800000U | (mantissa << 13));
  if (exponent != 0) return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
  const float magnitude = static_cast<float>(mantissa) * 0x1.0p-24F;
  return sign != 0 ? -magnitude : magnitude;
}

}  // namespace mmkd
