#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

// The safetensors container, without tensors: u64 little-endian header length, JSON header, contiguous data
// (huggingface/safetensors, README "Format").
namespace mmkd {

enum class DType { f64, f32, f16, bf16, i64, i32, i16, i8, u8, boolean };
std::string_view name(DType dtype);  ///< safetensors' spelling: "F32", "BF16", "I64", …
std::size_t size_of(DType dtype);    ///< bytes per element

struct TensorEntry {
  DType dtype = DType::f32;
  std::vector<std::int64_t> shape;
  std::uint64_t begin = 0, end = 0;  ///< byte offsets in the file
};

inline constexpr std::size_t kSafetensorsLengthBytes = 8;  ///< what stands before the JSON header

struct SafetensorsHeader {
  std::map<std::string, TensorEntry> tensors;
  std::map<std::string, std::string> metadata;
};

/// Parses the header at the start of a file of `file_size` bytes; `prefix` must hold at least the header. Throws Error
/// for a header over 100 MB, duplicate names, unknown types, sizes that don't fit the shape, overlaps, holes, and data
/// that doesn't end with the file. `name` appears in errors.
SafetensorsHeader parse_safetensors_header(std::span<const std::byte> prefix, std::uint64_t file_size,
                                           std::string_view name);

/// A safetensors file, memory-mapped copy-on-write: writing to its bytes would change them in this process only. Throws
/// Error as parse_safetensors_header() does, and where the file is mmkd's and any byte of it has changed: its checksum
/// (docs/formats/weights.md) is verified on opening, which reads all of it, and is no part of header().metadata. Files
/// of other programs have none and are read as they are.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::filesystem::path& path);
  ~SafetensorsFile();
  SafetensorsFile(SafetensorsFile&&) noexcept;
  const SafetensorsHeader& header() const;
  /// Throws Error naming the file and close names if there is no such tensor.
  const TensorEntry& entry(const std::string& tensor) const;
  std::span<const std::byte> bytes(const std::string& tensor) const;
  const std::filesystem::path& path() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

struct NamedBytes {
  std::string name;
  DType dtype = DType::f32;
  std::vector<std::int64_t> shape;
  std::span<const std::byte> data;
};
/// Atomic; tensors in the given order, data aligned to 64 bytes, a checksum of the whole file in its metadata. Equal
/// input gives equal bytes.
void write_safetensors(const std::filesystem::path& path, std::span<const NamedBytes> tensors,
                       const std::map<std::string, std::string>& metadata);

}  // namespace mmkd
