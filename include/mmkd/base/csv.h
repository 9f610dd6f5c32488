#pragma once
#include <string>
#include <vector>

namespace mmkd {

/// One row of CSV without its line end (RFC 4180: cells with commas, quotes or line ends are quoted).
std::string csv_line(const std::vector<std::string>& cells);

}  // namespace mmkd
