#include "mmkd/comm/ordered_reduce.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "mmkd/base/error.h"

namespace mmkd {

namespace {

// A format says how elements are stored and in what type they are combined.
template <class T>
struct Plain {
  using Stored = T;
  using Value = T;
  static Value load(Stored x) { return x; }
  static Stored store(Value x) { return x; }
};

struct Bf16 {
  using Stored = std::uint16_t;
  using Value = float;
  static Value load(Stored x) { return std::bit_cast<float>(static_cast<std::uint32_t>(x) << 16); }
  static Stored store(Value x) {
    const auto bits = std::bit_cast<std::uint32_t>(x);
    const bool is_nan = (bits & 0x7FFFFFFFU) > 0x7F800000U;
    const std::uint32_t half_unit = 0x7FFFU + ((bits >> 16) & 1U);  // ties go to the even neighbour
    return static_cast<Stored>(is_nan ? 0x7FC0U : (bits + half_unit) >> 16);
  }
};

// IEEE 754 binary16.
struct F16 {
  using Stored = std::uint16_t;
  using Value = float;
  static Value load(Stored x) {
    const std::uint32_t sign = static_cast<std::uint32_t>(x & 0x8000U) << 16;
    const std::uint32_t magnitude = x & 0x7FFFU;
    if (magnitude >= 0x7C00U)  // infinity, NaN
      return std::bit_cast<float>(sign | 0x7F800000U | ((magnitude & 0x3FFU) << 13));
    // Read as binary32 the exponent is too small by 112: scaling by 2^112 is exact and normalises subnormals.
    const float scaled = std::bit_cast<float>(magnitude << 13) * 0x1p112F;
    return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(scaled));
  }
  static Stored store(Value x) {
    const auto bits = std::bit_cast<std::uint32_t>(x);
    const auto sign = static_cast<Stored>((bits >> 16) & 0x8000U);
    const std::uint32_t magnitude = bits & 0x7FFFFFFFU;
    if (magnitude > 0x7F800000U) return static_cast<Stored>(sign | 0x7E00U);
    if (magnitude >= 0x477FF000U) return static_cast<Stored>(sign | 0x7C00U);  // rounds to 65536 or more
    if (magnitude < 0x38800000U) {                                             // below 2^-14: subnormal
      // Adding 0.5 leaves the multiple of 2^-24, rounded by the adder itself, in the low bits.
      const float shifted = std::bit_cast<float>(magnitude) + 0.5F;
      return static_cast<Stored>(sign | (std::bit_cast<std::uint32_t>(shifted) - 0x3F000000U));
    }
    const std::uint32_t half_unit = 0xFFFU + ((magnitude >> 13) & 1U);
    return static_cast<Stored>(sign | ((magnitude + half_unit - 0x38000000U) >> 13));
  }
};

struct Boolean {
  using Stored = std::uint8_t;
  using Value = std::uint8_t;
  static Value load(Stored x) { return x != 0; }
  static Stored store(Value x) { return x; }
};

template <class T>
T add(T a, T b) {
  if constexpr (std::integral<T>) {
    using U = std::make_unsigned_t<T>;  // wraps instead of being undefined
    return static_cast<T>(static_cast<U>(static_cast<U>(a) + static_cast<U>(b)));
  } else {
    return a + b;
  }
}

template <class T>
T multiply(T a, T b) {
  if constexpr (std::integral<T>) {
    using U = std::make_unsigned_t<T>;
    // uint8 promotes to int, which is wide enough.
    return static_cast<T>(static_cast<U>(a) * static_cast<U>(b));
  } else {
    return a * b;
  }
}

// A NaN stays whichever side it is on.
template <class T>
T smaller(T a, T b) {
  if constexpr (std::floating_point<T>) return (a < b || std::isnan(a)) ? a : b;
  return b < a ? b : a;
}

template <class T>
T larger(T a, T b) {
  if constexpr (std::floating_point<T>) return (a > b || std::isnan(a)) ? a : b;
  return b > a ? b : a;
}

// Blocks that stay in the first-level cache: every input is read once, the output written once.
constexpr std::size_t kBlock = 2048;

template <class Format, class Combine, class Finish>
void reduce_blocks(std::span<const std::byte* const> inputs, std::byte* output, std::size_t count, Combine combine,
                   Finish finish) {
  using Stored = typename Format::Stored;
  typename Format::Value values[kBlock];
  for (std::size_t begin = 0; begin < count; begin += kBlock) {
    const std::size_t length = std::min(kBlock, count - begin);
    const auto* first = reinterpret_cast<const Stored*>(inputs[0]) + begin;
    for (std::size_t i = 0; i < length; ++i) values[i] = Format::load(first[i]);
    for (const std::byte* input : inputs.subspan(1)) {
      const auto* next = reinterpret_cast<const Stored*>(input) + begin;
      for (std::size_t i = 0; i < length; ++i) values[i] = combine(values[i], Format::load(next[i]));
    }
    auto* out = reinterpret_cast<Stored*>(output) + begin;
    for (std::size_t i = 0; i < length; ++i) out[i] = Format::store(finish(values[i]));
  }
}

template <class Format>
void reduce_numbers(Reduction reduction, std::span<const std::byte* const> inputs, std::byte* output,
                    std::size_t count) {
  using Value = typename Format::Value;
  const auto as_is = [](Value x) { return x; };
  const auto with = [&](auto combine, auto finish) { reduce_blocks<Format>(inputs, output, count, combine, finish); };
  switch (reduction) {
    case Reduction::sum:
      return with([](Value a, Value b) { return add(a, b); }, as_is);
    case Reduction::average: {
      using Divisor = std::conditional_t<std::integral<Value>, std::int64_t, Value>;
      const auto ranks = static_cast<Divisor>(inputs.size());
      const auto divide = [ranks](Value x) { return static_cast<Value>(x / ranks); };
      return with([](Value a, Value b) { return add(a, b); }, divide);
    }
    case Reduction::product:
      return with([](Value a, Value b) { return multiply(a, b); }, as_is);
    case Reduction::min:
      return with([](Value a, Value b) { return smaller(a, b); }, as_is);
    case Reduction::max:
      return with([](Value a, Value b) { return larger(a, b); }, as_is);
  }
}

void reduce_booleans(Reduction reduction, std::span<const std::byte* const> inputs, std::byte* output,
                     std::size_t count) {
  if (reduction == Reduction::average) throw Error("booleans have no average: convert to numbers first");
  const bool all = reduction == Reduction::product || reduction == Reduction::min;
  reduce_numbers<Boolean>(all ? Reduction::min : Reduction::max, inputs, output, count);
}

}  // namespace

std::size_t element_size(ElementType type) {
  switch (type) {
    case ElementType::f64:
    case ElementType::i64:
      return 8;
    case ElementType::f32:
    case ElementType::i32:
      return 4;
    case ElementType::bf16:
    case ElementType::f16:
      return 2;
    case ElementType::u8:
    case ElementType::boolean:
      return 1;
  }
  throw Error("element type {} does not exist", static_cast<int>(type));
}

std::string_view to_string(ElementType type) {
  switch (type) {
    case ElementType::f32:
      return "f32";
    case ElementType::f64:
      return "f64";
    case ElementType::bf16:
      return "bf16";
    case ElementType::f16:
      return "f16";
    case ElementType::i64:
      return "i64";
    case ElementType::i32:
      return "i32";
    case ElementType::u8:
      return "u8";
    case ElementType::boolean:
      return "bool";
  }
  return "?";
}

std::string_view to_string(Reduction reduction) {
  switch (reduction) {
    case Reduction::sum:
      return "sum";
    case Reduction::average:
      return "average";
    case Reduction::product:
      return "product";
    case Reduction::min:
      return "min";
    case Reduction::max:
      return "max";
  }
  return "?";
}

void reduce_in_order(Reduction reduction, ElementType type, std::span<const std::byte* const> inputs, std::byte* output,
                     std::size_t count) {
  if (inputs.empty()) throw Error("reduce_in_order: no inputs");
  switch (type) {
    case ElementType::f32:
      return reduce_numbers<Plain<float>>(reduction, inputs, output, count);
    case ElementType::f64:
      return reduce_numbers<Plain<double>>(reduction, inputs, output, count);
    case ElementType::bf16:
      return reduce_numbers<Bf16>(reduction, inputs, output, count);
    case ElementType::f16:
      return reduce_numbers<F16>(reduction, inputs, output, count);
    case ElementType::i64:
      return reduce_numbers<Plain<std::int64_t>>(reduction, inputs, output, count);
    case ElementType::i32:
      return reduce_numbers<Plain<std::int32_t>>(reduction, inputs, output, count);
    case ElementType::u8:
      return reduce_numbers<Plain<std::uint8_t>>(reduction, inputs, output, count);
    case ElementType::boolean:
      return reduce_booleans(reduction, inputs, output, count);
  }
}

}  // namespace mmkd
