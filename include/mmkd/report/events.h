#pragma once
#include <filesystem>

#include <nlohmann/json.hpp>

namespace mmkd {

/// What happens in a run as it happens, for programs: one JSON object a line is appended to a file
/// (docs/formats/events.md). A line is written whole; nothing that goes wrong with it stops the run.
class EventLog {
 public:
  explicit EventLog(std::filesystem::path file) : file_(std::move(file)) {}
  /// `time` is put first: seconds since 1970, UTC.
  void write(const nlohmann::ordered_json& event);

 private:
  std::filesystem::path file_;
  bool failed_ = false;
};

}  // namespace mmkd
