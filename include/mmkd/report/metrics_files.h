#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace mmkd {

/// Rewrites `<folder>/<stem>.csv` and `<folder>/<stem>.json` atomically from all epochs so far: a crash never leaves
/// half a row, and a resumed run continues the same files. Columns are the keys of the rows in order of first
/// appearance; null is an empty cell.
void write_metrics(const std::filesystem::path& folder, const std::string& stem,
                   const std::vector<nlohmann::ordered_json>& rows);

}  // namespace mmkd
