#pragma once
#include <cstdint>
#include <string>

#include <nlohmann/json_fwd.hpp>

namespace mmkd {

std::string host_name();

/// ISO 8601, UTC, to the second.
std::string utc_timestamp();

/// Tells one process from every other, also from a later one with its number.
struct ProcessIdentity {
  std::string host;
  std::string machine;  ///< of this start of the host, and of the container: boot id and PID namespace
  std::int64_t pid = 0;
  std::uint64_t started = 0;  ///< clock ticks after the start of the host
  bool operator==(const ProcessIdentity&) const = default;
};

ProcessIdentity this_process();

/// Is it known to have ended? False for processes of other hosts and containers, which cannot be seen from here.
bool has_ended(const ProcessIdentity& process);

nlohmann::json to_json(const ProcessIdentity& process);
/// Fields that are missing or of another type are left as they are in an empty identity.
ProcessIdentity process_from_json(const nlohmann::json& json);

}  // namespace mmkd
