#include "tests/parity/arrays.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>

#include "mmkd/base/error.h"
#include "mmkd/formats/safetensors.h"

namespace mmkd::parity {
namespace {

template <class T>
std::vector<double> widened(std::span<const std::byte> bytes) {
  std::vector<T> values(bytes.size() / sizeof(T));
  std::memcpy(values.data(), bytes.data(), values.size() * sizeof(T));
  return {values.begin(), values.end()};
}

std::vector<double> values_of(DType dtype, std::span<const std::byte> bytes) {
  switch (dtype) {
    case DType::f64:
      return widened<double>(bytes);
    case DType::f32:
      return widened<float>(bytes);
    case DType::i64:
      return widened<std::int64_t>(bytes);
    case DType::i32:
      return widened<std::int32_t>(bytes);
    case DType::i16:
      return widened<std::int16_t>(bytes);
    case DType::i8:
      return widened<std::int8_t>(bytes);
    case DType::u8:
      [[fallthrough]];
    case DType::boolean:
      return widened<std::uint8_t>(bytes);
    case DType::f16:
      [[fallthrough]];
    case DType::bf16:
      break;
  }
  throw Error("parity cases hold no tensors of type {}", name(dtype));
}

std::string at(const std::string& name, std::size_t index, const std::vector<std::int64_t>& shape) {
  std::vector<std::size_t> place(shape.size());
  for (std::size_t d = shape.size(); d-- > 0;) {
    place[d] = index % static_cast<std::size_t>(shape[d]);
    index /= static_cast<std::size_t>(shape[d]);
  }
  return fmt::format("{}[{}]", name, fmt::join(place, ", "));
}

}  // namespace

std::map<std::string, Array> read_arrays(const std::filesystem::path& file) {
  const SafetensorsFile stored(file);
  std::map<std::string, Array> arrays;
  for (const auto& [tensor, entry] : stored.header().tensors) {
    const bool integral = entry.dtype != DType::f64 && entry.dtype != DType::f32;
    arrays[tensor] = {entry.shape, integral, values_of(entry.dtype, stored.bytes(tensor))};
  }
  return arrays;
}

void compare(const Case& c, const std::string& name, const Array& got, const Array& want, Verdict& verdict) {
  if (got.shape != want.shape) {
    fail(verdict,
         fmt::format("{}: got shape [{}], want [{}]", name, fmt::join(got.shape, ", "), fmt::join(want.shape, ", ")));
    return;
  }
  if (!want.integral) return compare(c, name, got.values, want.values, verdict);
  ++verdict.compared;
  const auto [g, w] = std::mismatch(got.values.begin(), got.values.end(), want.values.begin(), want.values.end());
  if (g == got.values.end() && w == want.values.end()) return;
  const auto index = static_cast<std::size_t>(g - got.values.begin());
  fail(verdict, fmt::format("{}: got {}, want {}", at(name, index, want.shape), *g, *w));
}

}  // namespace mmkd::parity
