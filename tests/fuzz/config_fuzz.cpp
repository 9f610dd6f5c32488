// libFuzzer target: the bytes are a configuration; lines that start with `--set ` are overrides. A malformed one must
// end in ConfigError; a valid one must print to YAML that loads to the same configuration.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "mmkd/config/load.h"
#include "mmkd/config/print.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string_view rest(reinterpret_cast<const char*>(data), size);
  std::string yaml;
  std::vector<std::string> overrides;
  constexpr std::string_view kSet = "--set ";
  constexpr std::size_t kMostOverrides = 16;
  while (!rest.empty()) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(line.size() + 1, rest.size()));
    if (line.substr(0, kSet.size()) == kSet && overrides.size() < kMostOverrides)
      overrides.emplace_back(line.substr(kSet.size()));
    else
      yaml.append(line).append("\n");
  }
  try {
    const auto loaded = mmkd::parse_config(yaml, "fuzz", overrides);
    if (!(mmkd::parse_config(mmkd::config_show(loaded), "fuzz").config == loaded.config)) std::abort();
  } catch (const mmkd::ConfigError& error) {
    if (error.problems().empty()) std::abort();
  }
  return 0;
}
