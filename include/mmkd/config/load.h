#pragma once
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mmkd/base/error.h"
#include "mmkd/config/config.h"

namespace mmkd {

/// Everything that is wrong with a configuration, in one error (exit code 2). what() has a heading and one line per
/// problem: `file:line:column: key: expected …, found …`; a value from the command line has `--set a.b=c` as its place.
class ConfigError : public UsageError {
 public:
  /// `name` is the file (or other source) that the heading names; `problems` has one element at least.
  ConfigError(const std::string& name, std::vector<std::string> problems);
  const std::vector<std::string>& problems() const noexcept { return problems_; }

 private:
  std::vector<std::string> problems_;
};

/// A valid configuration, and where each value came from.
struct LoadedConfig {
  Config config;
  /// Every key of the configuration -> "default", "file:line" or "--set".
  std::map<std::string, std::string> source;
  /// What was accepted but is not used, or was decided on the user's behalf: to be logged, one line each.
  std::vector<std::string> notes;
};

/// Reads a YAML file. `overrides` are `a.b=c` assignments (c is YAML: a number, text, `[1, 2]`, `{name: x}`), applied
/// in their order on top of the file; assigning to a section replaces all of it. Throws ConfigError with every problem
/// of file and overrides: invalid YAML, unknown or duplicate keys, wrong types, values out of range or in conflict,
/// missing keys. Limits: 1 MiB, 32 levels, 10,000 values with aliases expanded.
LoadedConfig load_config(const std::filesystem::path& file, std::span<const std::string> overrides = {});

/// The same from text; `name` stands for the file in messages.
LoadedConfig parse_config(std::string_view yaml, const std::string& name, std::span<const std::string> overrides = {});

}  // namespace mmkd
