#pragma once
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

// Cells of a table's row, whether CSV (cells by column name) or a JSON object.
namespace mmkd {

/// Without white space at both ends.
std::string trimmed(const std::string& text);

/// Null where there is no such column; JSON: "a.b" descends into objects unless the whole key exists, null counts as
/// empty, numbers and truth values are as written.
std::optional<std::string> find_cell(const std::map<std::string, std::string>& cells, const std::string& column);
std::optional<std::string> find_cell(const nlohmann::json& object, const std::string& key);

/// The same; Error naming the columns that there are.
std::string required_cell(const std::map<std::string, std::string>& cells, const std::string& column);
std::string required_cell(const nlohmann::json& object, const std::string& key);

/// `relative` below `root`; Error for absolute paths and for those that climb out of it.
std::filesystem::path path_below(const std::filesystem::path& root, const std::string& relative);
/// A picture of the wound format: below the data folder, or below `images` in it.
std::filesystem::path wound_image(const std::filesystem::path& root, const std::string& relative);

/// Collects what is wrong with the rows of a table, to be said at once.
class RowProblems {
 public:
  explicit RowProblems(std::filesystem::path table) : table_(std::move(table)) {}
  void add(const std::string& where, const std::string& what);
  void throw_if_any() const;  ///< Error with the first of them and their number

 private:
  std::filesystem::path table_;
  std::vector<std::string> lines_;
  std::size_t count_ = 0;
};

/// Error unless the text is UTF-8; `what` names it.
void require_utf8(const std::string& text, const std::string& what);

}  // namespace mmkd
