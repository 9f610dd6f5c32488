#include <algorithm>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "mmkd/base/error.h"
#include "mmkd/formats/safetensors.h"

namespace mmkd {
namespace {

constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;  // the reference's limit

struct DTypeInfo {
  DType dtype;
  std::string_view name;
  std::size_t size;
};
constexpr DTypeInfo kDTypes[] = {
    {DType::f64, "F64", 8}, {DType::f32, "F32", 4},      {DType::f16, "F16", 2}, {DType::bf16, "BF16", 2},
    {DType::i64, "I64", 8}, {DType::i32, "I32", 4},      {DType::i16, "I16", 2}, {DType::i8, "I8", 1},
    {DType::u8, "U8", 1},   {DType::boolean, "BOOL", 1},
};

const DTypeInfo& info(DType dtype) {
  for (const auto& entry : kDTypes) {
    if (entry.dtype == dtype) return entry;
  }
  throw Error("safetensors: {} is not a value of DType", static_cast<int>(dtype));
}

std::uint64_t little_endian_u64(std::span<const std::byte> bytes) {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < kSafetensorsLengthBytes; ++i)
    value |= std::to_integer<std::uint64_t>(bytes[i]) << (8 * i);
  return value;
}

/// Names and JSON of a damaged file can be megabytes long: what of them an error shows. Never cuts a UTF-8 sequence.
std::string shortened(std::string_view text) {
  constexpr std::size_t kShown = 300;
  if (text.size() <= kShown) return std::string(text);
  std::size_t end = kShown;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  return std::string(text.substr(0, end)) + "…";
}

/// Reads the header's JSON as a stream, so that anything but the one known structure ends the parse at once: deep
/// nesting or huge lists of other things never take memory, and duplicate names are seen.
class HeaderReader final : public nlohmann::json_sax<nlohmann::json> {
 public:
  HeaderReader(std::string_view file, SafetensorsHeader& header) : file_(file), header_(header) {}

  bool null() override { unexpected("null"); }
  bool boolean(bool) override { unexpected("a boolean"); }
  bool number_integer(number_integer_t value) override { unexpected(fmt::format("the number {}", value)); }
  bool number_float(number_float_t, const string_t& text) override { unexpected("the number " + text); }
  bool binary(binary_t&) override { unexpected("binary data"); }

  bool number_unsigned(number_unsigned_t value) override {
    if (place_ == Place::shape) {
      if (value > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
        fail(fmt::format("tensor '{}': dimension {} is too large", tensor_, value));
      }
      if (entry_.shape.size() == kMaxDimensions) {
        fail(fmt::format("tensor '{}': more than {} dimensions", tensor_, kMaxDimensions));
      }
      entry_.shape.push_back(static_cast<std::int64_t>(value));
    } else if (place_ == Place::offsets && offsets_.size() < 2) {
      offsets_.push_back(value);
    } else {
      unexpected(fmt::format("the number {}", value));
    }
    return true;
  }

  bool string(string_t& value) override {
    if (place_ == Place::metadata) {
      header_.metadata[key_] = value;
    } else if (place_ == Place::tensor && key_ == "dtype") {
      dtype_ = dtype_of(value);
    } else {
      unexpected("a string");
    }
    return true;
  }

  bool start_object(std::size_t) override {
    switch (place_) {
      case Place::start:
        place_ = Place::top;
        break;
      case Place::top:
        start_entry();
        break;
      default:
        unexpected("an object");
    }
    return true;
  }

  bool key(string_t& value) override {
    auto& seen = place_ == Place::top ? names_ : keys_;
    if (!seen.insert(value).second) {
      fail(place_ == Place::top ? fmt::format("two tensors are named '{}'", value)
                                : fmt::format("'{}' has the key '{}' twice", tensor_, value));
    }
    key_ = value;
    return true;
  }

  bool end_object() override {
    switch (place_) {
      case Place::tensor:
        finish_tensor();
        [[fallthrough]];
      case Place::metadata:
        place_ = Place::top;
        break;
      default:
        place_ = Place::end;
    }
    return true;
  }

  bool start_array(std::size_t) override {
    if (place_ != Place::tensor) unexpected("an array");
    if (key_ == "shape") {
      place_ = Place::shape;
    } else if (key_ == "data_offsets") {
      place_ = Place::offsets;
    } else {
      unexpected("an array");
    }
    return true;
  }

  bool end_array() override {
    place_ = Place::tensor;
    return true;
  }

  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception& error) override {
    fail(fmt::format("no valid JSON at byte {}: {}", kSafetensorsLengthBytes + position, error.what()));
  }

 private:
  enum class Place { start, top, metadata, tensor, shape, offsets, end };
  static constexpr std::size_t kMaxDimensions = 64;

  [[noreturn]] void fail(const std::string& what) const {
    throw Error("{}: no valid safetensors header: {}", file_, shortened(what));
  }
  [[noreturn]] void unexpected(const std::string& what) const {
    fail(place_ == Place::start ? fmt::format("{} where the object of tensors starts", what)
                                : fmt::format("{} is not expected at '{}' of '{}'", what, key_, tensor_));
  }

  void start_entry() {
    tensor_ = key_;
    keys_.clear();
    if (key_ == "__metadata__") {
      place_ = Place::metadata;
      return;
    }
    place_ = Place::tensor;
    entry_ = TensorEntry{};
    offsets_.clear();
    dtype_.reset();
  }

  DType dtype_of(const std::string& text) const {
    for (const auto& entry : kDTypes) {
      if (entry.name == text) return entry.dtype;
    }
    fail(fmt::format("tensor '{}': unknown type '{}'; F64, F32, F16, BF16, I64, I32, I16, I8, U8 and BOOL are known",
                     tensor_, text));
  }

  void finish_tensor() {
    for (const char* required : {"dtype", "shape", "data_offsets"}) {
      if (!keys_.contains(required)) fail(fmt::format("tensor '{}' has no {}", tensor_, required));
    }
    if (keys_.size() != 3) fail(fmt::format("tensor '{}' has keys other than dtype, shape and data_offsets", tensor_));
    if (!dtype_ || offsets_.size() != 2) fail(fmt::format("tensor '{}': data_offsets must be two numbers", tensor_));
    entry_.dtype = *dtype_;
    entry_.begin = offsets_[0];
    entry_.end = offsets_[1];
    header_.tensors.emplace(tensor_, std::move(entry_));
  }

  std::string_view file_;
  SafetensorsHeader& header_;
  Place place_ = Place::start;
  std::string key_, tensor_;
  std::set<std::string> names_, keys_;
  TensorEntry entry_;
  std::optional<DType> dtype_;
  std::vector<std::uint64_t> offsets_;
};

/// Bytes of a tensor; nothing when the product does not fit 64 bits.
std::optional<std::uint64_t> byte_count(DType dtype, const std::vector<std::int64_t>& shape) {
  if (std::find(shape.begin(), shape.end(), 0) != shape.end()) return 0;
  std::uint64_t bytes = size_of(dtype);
  for (const auto dimension : shape) {
    if (__builtin_mul_overflow(bytes, static_cast<std::uint64_t>(dimension), &bytes)) return std::nullopt;
  }
  return bytes;
}

/// The tensors must tile the data: no holes, no overlaps, the last one ends with the file. Turns their offsets into
/// offsets in the file.
void check_layout(SafetensorsHeader& header, std::uint64_t data_begin, std::uint64_t file_size, std::string_view file) {
  std::vector<std::pair<const std::string*, TensorEntry*>> by_offset;
  for (auto& [tensor, entry] : header.tensors) by_offset.emplace_back(&tensor, &entry);
  std::sort(by_offset.begin(), by_offset.end(), [](const auto& a, const auto& b) {
    return std::pair(a.second->begin, a.second->end) < std::pair(b.second->begin, b.second->end);
  });
  const std::uint64_t data_size = file_size - data_begin;
  std::uint64_t expected = 0;
  for (auto [tensor, entry] : by_offset) {
    if (entry->begin != expected) {
      throw Error("{}: tensor '{}' starts at data byte {}, the one before it ends at {}: {}", file, shortened(*tensor),
                  entry->begin, expected, entry->begin > expected ? "there is a hole" : "they overlap");
    }
    if (entry->end < entry->begin || entry->end > data_size) {
      throw Error("{}: tensor '{}' takes the data bytes {} to {}, the file holds {}; it is truncated or damaged", file,
                  shortened(*tensor), entry->begin, entry->end, data_size);
    }
    const auto bytes = byte_count(entry->dtype, entry->shape);
    if (!bytes || *bytes != entry->end - entry->begin) {
      throw Error("{}: tensor '{}' of type {} and shape [{}] does not fill the {} bytes it is given", file,
                  shortened(*tensor), name(entry->dtype), fmt::join(entry->shape, ", "), entry->end - entry->begin);
    }
    expected = entry->end;
    entry->begin += data_begin;
    entry->end += data_begin;
  }
  if (expected != data_size) {
    throw Error("{}: the tensors end at data byte {}, the file holds {}; it is damaged", file, expected, data_size);
  }
}

}  // namespace

std::string_view name(DType dtype) { return info(dtype).name; }
std::size_t size_of(DType dtype) { return info(dtype).size; }

SafetensorsHeader parse_safetensors_header(std::span<const std::byte> prefix, std::uint64_t file_size,
                                           std::string_view file) {
  if (file_size < kSafetensorsLengthBytes || prefix.size() < kSafetensorsLengthBytes) {
    throw Error("{}: {} bytes are too few for a safetensors file; it is truncated", file, file_size);
  }
  const std::uint64_t header_bytes = little_endian_u64(prefix);
  if (header_bytes > kMaxHeaderBytes) {
    throw Error("{}: no safetensors file: its header would have {} bytes, at most {} are allowed", file, header_bytes,
                kMaxHeaderBytes);
  }
  const std::uint64_t data_begin = kSafetensorsLengthBytes + header_bytes;
  if (data_begin > file_size || data_begin > prefix.size()) {
    throw Error("{}: the header has {} bytes, the file {}; it is truncated", file, header_bytes, file_size);
  }
  const auto* text = reinterpret_cast<const char*>(prefix.data() + kSafetensorsLengthBytes);
  if (header_bytes == 0 || text[0] != '{')
    throw Error("{}: no valid safetensors header: it must start with '{{'", file);
  if (std::memchr(text, '\0', header_bytes) != nullptr) {  // which the JSON parser would take for the end
    throw Error("{}: no valid safetensors header: it holds a NUL byte", file);
  }
  SafetensorsHeader header;
  HeaderReader reader(file, header);
  nlohmann::json::sax_parse(text, text + header_bytes, &reader);
  check_layout(header, data_begin, file_size, file);
  return header;
}

}  // namespace mmkd
