#pragma once
#include <string>
#include <vector>

#include "mmkd/config/load.h"

namespace mmkd::config_testing {

/// The shortest configuration that is valid.
inline const std::string kMinimal =
    "data: {root: data}\n"
    "teacher: {vision: vit-base, text: distilbert}\n"
    "student: {vision: deit-tiny, text: bert-mini}\n";

inline LoadedConfig load(const std::string& yaml, const std::vector<std::string>& overrides = {}) {
  return parse_config(yaml, "c.yaml", overrides);
}

inline LoadedConfig minimal(const std::vector<std::string>& overrides = {}) { return load(kMinimal, overrides); }

/// What ConfigError lists; empty if the configuration is valid.
inline std::vector<std::string> problems(const std::string& yaml, const std::vector<std::string>& overrides = {}) {
  try {
    load(yaml, overrides);
  } catch (const ConfigError& error) {
    return error.problems();
  }
  return {};
}

using Lines = std::vector<std::string>;

}  // namespace mmkd::config_testing
