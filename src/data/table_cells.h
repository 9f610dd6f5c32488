#pragma once
#include <map>
#include <optional>
#include <string>

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

/// Error unless the text is UTF-8; `what` names it.
void require_utf8(const std::string& text, const std::string& what);

}  // namespace mmkd
