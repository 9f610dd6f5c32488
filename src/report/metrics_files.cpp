#include "mmkd/report/metrics_files.h"

#include <algorithm>

#include "mmkd/base/csv.h"
#include "mmkd/base/files.h"

namespace mmkd {
namespace {

std::string cell(const nlohmann::ordered_json& value) {
  if (value.is_null()) return "";
  return value.is_string() ? value.get<std::string>() : value.dump();
}

std::vector<std::string> columns_of(const std::vector<nlohmann::ordered_json>& rows) {
  std::vector<std::string> columns;
  for (const auto& row : rows) {
    for (const auto& [key, value] : row.items()) {
      if (std::find(columns.begin(), columns.end(), key) == columns.end()) columns.push_back(key);
    }
  }
  return columns;
}

}  // namespace

void write_metrics(const std::filesystem::path& folder, const std::string& stem,
                   const std::vector<nlohmann::ordered_json>& rows) {
  const auto columns = columns_of(rows);
  std::string csv = csv_line(columns) + "\n";
  for (const auto& row : rows) {
    std::vector<std::string> cells;
    cells.reserve(columns.size());
    for (const auto& column : columns) cells.push_back(row.contains(column) ? cell(row.at(column)) : "");
    csv += csv_line(cells) + "\n";
  }
  write_file_atomic(folder / (stem + ".csv"), csv);
  write_file_atomic(folder / (stem + ".json"), nlohmann::ordered_json(rows).dump(1) + "\n");
}

}  // namespace mmkd
