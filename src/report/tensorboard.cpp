#include "mmkd/report/tensorboard.h"

#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <bit>
#include <cerrno>
#include <chrono>
#include <cstring>

#include "mmkd/base/error.h"
#include "mmkd/base/files.h"
#include "mmkd/base/process.h"

namespace mmkd {
namespace {

std::array<std::uint32_t, 256> crc_table() {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t i = 0; i < 256; ++i) {
    std::uint32_t c = i;
    for (int k = 0; k < 8; ++k) c = (c & 1) != 0 ? (c >> 1) ^ 0x82F63B78U : c >> 1;
    table[i] = c;
  }
  return table;
}

/// TFRecord stores checksums rotated and offset, so that a checksum of data holding checksums stays sound.
std::uint32_t masked(std::uint32_t crc) { return ((crc >> 15) | (crc << 17)) + 0xA282EAD8U; }

template <class T>
std::string little_endian(T value) {
  static_assert(std::endian::native == std::endian::little);
  std::string bytes(sizeof value, '\0');
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}

std::string varint(std::uint64_t value) {
  std::string bytes;
  while (value >= 0x80) {
    bytes += static_cast<char>(value | 0x80);
    value >>= 7;
  }
  return bytes + static_cast<char>(value);
}

// Protocol buffer wire format: key = field number * 8 + wire type (0 varint, 1 64-bit, 2 length-delimited, 5 32-bit).
std::string field_bytes(std::uint64_t number, const std::string& bytes) {
  return varint(number * 8 + 2) + varint(bytes.size()) + bytes;
}
std::string field_double(std::uint64_t number, double value) { return varint(number * 8 + 1) + little_endian(value); }
std::string field_float(std::uint64_t number, float value) { return varint(number * 8 + 5) + little_endian(value); }
std::string field_varint(std::uint64_t number, std::int64_t value) {
  return varint(number * 8) + varint(static_cast<std::uint64_t>(value));
}

double wall_time() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

}  // namespace

std::uint32_t crc32c(std::string_view bytes) {
  static const auto table = crc_table();
  std::uint32_t crc = 0xFFFFFFFFU;
  for (const char byte : bytes) crc = table[(crc ^ static_cast<unsigned char>(byte)) & 0xFF] ^ (crc >> 8);
  return ~crc;
}

TensorBoardWriter::TensorBoardWriter(const std::filesystem::path& folder) {
  make_folder(folder);
  const auto path = folder / fmt::format("events.out.tfevents.{}.{}.{}", static_cast<std::int64_t>(wall_time()),
                                         host_name(), ::getpid());
  file_ = std::fopen(path.c_str(), "abe");
  if (file_ == nullptr) throw Error("{}: cannot be created: {}", path.string(), std::strerror(errno));
  record(field_double(1, wall_time()) + field_bytes(3, "brain.Event:2"));
  flush();
}

TensorBoardWriter::~TensorBoardWriter() { std::fclose(file_); }

void TensorBoardWriter::scalar(const std::string& tag, std::int64_t step, float value) {
  // Event{wall_time=1, step=2, summary=5}; Summary{value=1}; Value{tag=1, simple_value=2}
  const std::string entry = field_bytes(1, tag) + field_float(2, value);
  record(field_double(1, wall_time()) + field_varint(2, step) + field_bytes(5, field_bytes(1, entry)));
}

void TensorBoardWriter::flush() { std::fflush(file_); }

void TensorBoardWriter::record(const std::string& event) {
  const std::string length = little_endian(static_cast<std::uint64_t>(event.size()));
  const std::string bytes =
      length + little_endian(masked(crc32c(length))) + event + little_endian(masked(crc32c(event)));
  std::fwrite(bytes.data(), 1, bytes.size(), file_);
}

}  // namespace mmkd
