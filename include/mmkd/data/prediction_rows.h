#pragma once
#include <cstddef>
#include <filesystem>
#include <functional>
#include <string>

namespace mmkd {

/// Columns (CSV) or keys (JSON lines, `a.b` descends) of a table of samples without labels.
struct PredictionColumns {
  std::string id = "id", image = "image", text = "text";
};

/// One sample to be classified. What is missing is empty: an empty cell, null, or a column that is not there.
struct PredictionRow {
  std::string id;  ///< the row's number, from 1, where the table has no id column
  std::filesystem::path image;
  std::string text;
  std::string where;  ///< file:line
};

/// Calls `row` for each row of a .csv or .jsonl file, in order and one at a time: the file may be larger than the
/// memory. `image_root`: folder that relative image paths start from. A row that cannot be used (ragged, no JSON, an
/// empty id, neither image nor text) goes to `problem`. Throws UsageError for another kind of file, and Error for an
/// unreadable one or for a CSV table with neither image nor text column.
void read_prediction_rows(const std::filesystem::path& table, const PredictionColumns& columns,
                          const std::filesystem::path& image_root, const std::function<void(const PredictionRow&)>& row,
                          const std::function<void(const std::string& where, const std::string& what)>& problem);

}  // namespace mmkd
