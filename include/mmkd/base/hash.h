#pragma once
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace mmkd {

/// Incremental SHA-256 (OpenSSL).
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(Sha256&&) noexcept;
  Sha256& operator=(Sha256&&) noexcept;
  Sha256& update(std::span<const std::byte> bytes);
  Sha256& update(std::string_view text);
  /// 64 lower-case hexadecimal digits; the object must not be used afterwards.
  std::string hex() &&;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

std::string sha256_hex(std::string_view text);
/// Throws Error when the file cannot be read.
std::string sha256_file(const std::filesystem::path& path);

/// XXH3, 64 bit: the checksum of records and datasets (fast, not cryptographic).
std::uint64_t checksum64(std::span<const std::byte> bytes);
std::uint64_t checksum64(std::string_view text);
/// 16 lower-case hexadecimal digits.
std::string to_hex(std::uint64_t value);

}  // namespace mmkd
