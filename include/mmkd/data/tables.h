#pragma once
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

namespace mmkd {

/// Calls `row(cells by column name, line)` for each row of a CSV file with a header (RFC 4180; a byte order mark and
/// CRLF are accepted), and returns the names of the columns in their order. Throws Error for an unreadable file,
/// unclosed quotes, duplicate columns; a ragged row goes to `problem`.
std::vector<std::string> read_csv(
    const std::filesystem::path& file,
    const std::function<void(const std::map<std::string, std::string>&, std::size_t line)>& row,
    const std::function<void(const std::string& where, const std::string& what)>& problem);
/// The same from text; `name` stands for the file.
std::vector<std::string> parse_csv(
    std::string_view text, const std::string& name,
    const std::function<void(const std::map<std::string, std::string>&, std::size_t line)>& row,
    const std::function<void(const std::string& where, const std::string& what)>& problem);

/// Calls `row(object, line)` for each non-empty line of a JSON-lines file; what is no JSON object goes to `problem`.
void read_jsonl(const std::filesystem::path& file,
                const std::function<void(const nlohmann::json&, std::size_t line)>& row,
                const std::function<void(const std::string& where, const std::string& what)>& problem);
void parse_jsonl(std::string_view text, const std::string& name,
                 const std::function<void(const nlohmann::json&, std::size_t line)>& row,
                 const std::function<void(const std::string& where, const std::string& what)>& problem);

}  // namespace mmkd
