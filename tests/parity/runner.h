#pragma once
#include <filesystem>
#include <iosfwd>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tests/parity/parity.h"

namespace mmkd::parity {

/// A known kind; `check` is null when its handler is not part of this build.
struct Handler {
  std::string_view kind;
  Verdict (*check)(const Case& c);
};

struct Options {
  std::filesystem::path folder;  ///< of the cases, or its parent with a sub-folder `cases`
  std::string filter;            ///< only cases whose name contains it; empty: all
  bool all = false;              ///< a case that is not built yet counts as a failure
};

/// Reads `<folder>/case.json`. Throws Error for anything missing or malformed.
Case read_case(const std::filesystem::path& folder);

/// Runs every case in the order of their names and prints a line for each that is not passed and a summary. True if
/// something was compared and nothing failed. Throws Error when there are no cases.
bool run(const Options& options, std::span<const Handler> handlers, std::ostream& out);

/// The kinds of tests/parity/README.md with the handlers of this build.
std::span<const Handler> known_handlers();

}  // namespace mmkd::parity
