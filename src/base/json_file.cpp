#include "mmkd/base/json_file.h"

#include "mmkd/base/error.h"
#include "mmkd/base/files.h"

namespace mmkd {

nlohmann::json json_object_or_empty(const fs::path& file) {
  constexpr std::uint64_t kMost = 64 << 20;
  std::error_code error;
  if (!fs::exists(file, error)) return nlohmann::json::object();
  try {
    auto json = nlohmann::json::parse(read_file(file, kMost), nullptr, false);
    return json.is_object() ? json : nlohmann::json::object();
  } catch (const Error&) {
    return nlohmann::json::object();
  }
}

}  // namespace mmkd
