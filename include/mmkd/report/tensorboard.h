#pragma once
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

namespace mmkd {

/// Appends scalars to one TensorBoard event file (TFRecord framing around tensorflow.Event messages). Not part of what
/// must be bit-identical between runs: events carry wall times.
class TensorBoardWriter {
 public:
  /// Creates `<folder>/events.out.tfevents.<seconds>.<host>.<pid>`; a resumed run writes another file and TensorBoard
  /// joins them. Throws Error if it cannot be created.
  explicit TensorBoardWriter(const std::filesystem::path& folder);
  ~TensorBoardWriter();
  TensorBoardWriter(const TensorBoardWriter&) = delete;
  TensorBoardWriter& operator=(const TensorBoardWriter&) = delete;
  void scalar(const std::string& tag, std::int64_t step, float value);
  void flush();

 private:
  void record(const std::string& event);
  std::FILE* file_ = nullptr;
};

/// CRC-32C (Castagnoli), as TFRecord uses it before masking.
std::uint32_t crc32c(std::string_view bytes);

}  // namespace mmkd
