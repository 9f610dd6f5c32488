#include "mmkd/base/process.h"

#include <fmt/chrono.h>
#include <unistd.h>

#include <array>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

namespace mmkd {
namespace {

/// The first line of a file of /proc; empty if it cannot be read.
std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

/// When a process of this host started (proc(5), field 22 of stat); 0: there is none, or it has ended and waits for its
/// parent to ask for its status.
std::uint64_t start_of(std::int64_t pid) {
  const std::string line = first_line("/proc/" + std::to_string(pid) + "/stat");
  const auto end_of_name = line.rfind(')');  // the name may hold anything, brackets too
  if (end_of_name == std::string::npos) return 0;
  std::istringstream fields(line.substr(end_of_name + 1));
  std::string field;
  constexpr int kState = 3, kStart = 22;
  for (int number = kState; number <= kStart && fields >> field; ++number) {
    if (number == kState && (field == "Z" || field == "X")) return 0;
  }
  std::uint64_t ticks = 0;
  std::istringstream(field) >> ticks;
  return ticks;
}

std::string machine() {
  std::error_code error;
  const auto pid_namespace = std::filesystem::read_symlink("/proc/self/ns/pid", error);
  return first_line("/proc/sys/kernel/random/boot_id") + " " + (error ? "" : pid_namespace.string());
}

}  // namespace

std::string host_name() {
  std::array<char, 256> name{};
  if (gethostname(name.data(), name.size() - 1) != 0) return "unknown";
  return name.data();
}

std::string utc_timestamp() { return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr))); }

ProcessIdentity this_process() {
  const std::int64_t pid = ::getpid();
  return {.host = host_name(), .machine = machine(), .pid = pid, .started = start_of(pid)};
}

bool has_ended(const ProcessIdentity& process) {
  if (process.pid <= 0 || process.host != host_name() || process.machine != machine()) return false;
  return start_of(process.pid) != process.started;
}

nlohmann::json to_json(const ProcessIdentity& process) {
  return {{"host", process.host}, {"machine", process.machine}, {"pid", process.pid}, {"started", process.started}};
}

ProcessIdentity process_from_json(const nlohmann::json& json) {
  ProcessIdentity process;
  const auto text = [&](const char* key, std::string& value) {
    if (json.contains(key) && json[key].is_string()) value = json[key].get<std::string>();
  };
  if (!json.is_object()) return process;
  text("host", process.host);
  text("machine", process.machine);
  if (json.contains("pid") && json["pid"].is_number_integer()) process.pid = json["pid"].get<std::int64_t>();
  if (json.contains("started") && json["started"].is_number_unsigned())
    process.started = json["started"].get<std::uint64_t>();
  return process;
}

}  // namespace mmkd
