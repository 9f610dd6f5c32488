#pragma once
#include <cstddef>
#include <filesystem>
#include <span>
#include <utility>

namespace mmkd {

/// copy_on_write: what is written to the mapped bytes stays in this process and never reaches the file.
enum class MapAccess { read_only, copy_on_write };

/// A file mapped into memory. An empty file maps to an empty span.
class MappedFile {
 public:
  MappedFile() = default;
  /// Throws Error if it cannot be opened or mapped.
  explicit MappedFile(const std::filesystem::path& path, MapAccess access = MapAccess::read_only);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  MappedFile& operator=(MappedFile&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  std::span<const std::byte> bytes() const { return {static_cast<const std::byte*>(data_), size_}; }
  /// Takes the pages out of this process's memory; they come back, from the system's cache of the file, when they are
  /// read again. Pointers stay valid, and other threads may be reading. Only for read_only.
  void let_pages_go() const;

 private:
  void* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace mmkd
