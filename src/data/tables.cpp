#include "mmkd/data/tables.h"

#include <csv.h>

#include <exception>
#include <memory>
#include <set>

#include "mmkd/base/error.h"
#include "mmkd/base/files.h"

namespace mmkd {
namespace {

constexpr std::uint64_t kMaxTableBytes = std::uint64_t{4} << 30;

/// libcsv's callbacks gather one row at a time.
struct CsvState {
  std::vector<std::string> cells;
  std::vector<std::string> columns;
  std::size_t line = 1;  // of the row's end; quoted cells may hold line ends
  std::string name;
  const std::function<void(const std::map<std::string, std::string>&, std::size_t)>* row = nullptr;
  const std::function<void(const std::string&, const std::string&)>* problem = nullptr;
  std::exception_ptr error = nullptr;  // exceptions must not cross the C library
};

void on_cell(void* data, std::size_t size, void* state) {
  static_cast<CsvState*>(state)->cells.emplace_back(static_cast<const char*>(data), size);
}

void finish_row(CsvState& s) {
  if (s.columns.empty()) {
    s.columns = s.cells;
    if (std::set<std::string>(s.columns.begin(), s.columns.end()).size() != s.columns.size()) {
      throw Error("{}: a column name occurs twice in the header", s.name);
    }
    return;
  }
  if (s.cells.size() != s.columns.size()) {
    (*s.problem)(fmt::format("{}:{}", s.name, s.line),
                 fmt::format("the row has {} cells, the header {}", s.cells.size(), s.columns.size()));
    return;
  }
  std::map<std::string, std::string> by_name;
  for (std::size_t i = 0; i < s.cells.size(); ++i) by_name.emplace(s.columns[i], s.cells[i]);
  (*s.row)(by_name, s.line);
}

void on_row(int, void* state) {
  auto& s = *static_cast<CsvState*>(state);
  if (s.error == nullptr) {
    try {
      finish_row(s);
    } catch (...) {
      s.error = std::current_exception();
    }
  }
  s.cells.clear();
}

/// Of the first line, its end included: "\n", "\r\n", or "\r" alone, each of which ends a row for libcsv.
std::size_t line_length(std::string_view text) {
  const auto end = text.find_first_of("\r\n");
  if (end == std::string_view::npos) return text.size();
  return text.substr(end).starts_with("\r\n") ? end + 2 : end + 1;
}

nlohmann::json parse_object(std::string_view text) {
  // The depth is bounded: the parser itself is iterative, but destroying and comparing deep values is not.
  const auto callback = [](int depth, nlohmann::json::parse_event_t, nlohmann::json&) {
    if (depth > 64) throw Error("values are nested more than 64 levels deep");
    return true;
  };
  auto json = nlohmann::json::parse(text, callback);
  if (!json.is_object()) throw Error("a JSON object is expected on every line");
  return json;
}

}  // namespace

std::vector<std::string> parse_csv(
    std::string_view text, const std::string& name,
    const std::function<void(const std::map<std::string, std::string>&, std::size_t)>& row,
    const std::function<void(const std::string&, const std::string&)>& problem) {
  csv_parser parser{};
  if (csv_init(&parser, CSV_STRICT | CSV_STRICT_FINI) != 0) throw Error("{}: libcsv could not start", name);
  const std::unique_ptr<csv_parser, void (*)(csv_parser*)> guard(&parser, [](csv_parser* p) { csv_free(p); });
  CsvState state{.cells = {}, .columns = {}, .line = 0, .name = name, .row = &row, .problem = &problem};
  std::string_view rest = text;
  if (rest.starts_with("\xEF\xBB\xBF")) rest.remove_prefix(3);
  // Line by line, so that every row knows where it ends.
  while (!rest.empty() && state.error == nullptr) {
    const auto piece = rest.substr(0, line_length(rest));
    ++state.line;
    if (csv_parse(&parser, piece.data(), piece.size(), on_cell, on_row, &state) != piece.size()) {
      throw Error("{}:{}: {}; quote cells that hold quotes, and double the quotes inside", name, state.line,
                  csv_strerror(csv_error(&parser)));
    }
    rest.remove_prefix(piece.size());
  }
  if (state.error == nullptr && csv_fini(&parser, on_cell, on_row, &state) != 0) {
    throw Error("{}:{}: a quoted cell is not closed before the end of the file", name, state.line);
  }
  if (state.error != nullptr) std::rethrow_exception(state.error);
  if (state.columns.empty()) throw Error("{}: the table is empty; a header line with column names is needed", name);
  return state.columns;
}

std::vector<std::string> read_csv(
    const fs::path& file, const std::function<void(const std::map<std::string, std::string>&, std::size_t)>& row,
    const std::function<void(const std::string&, const std::string&)>& problem) {
  return parse_csv(read_file(file, kMaxTableBytes), file.string(), row, problem);
}

void parse_jsonl(std::string_view text, const std::string& name,
                 const std::function<void(const nlohmann::json&, std::size_t)>& row,
                 const std::function<void(const std::string&, const std::string&)>& problem) {
  std::size_t line = 0;
  std::string_view rest = text;
  while (!rest.empty()) {
    ++line;
    const auto end = rest.find('\n');
    const auto piece = rest.substr(0, end);
    rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
    if (piece.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    nlohmann::json json;
    try {
      json = parse_object(piece);
    } catch (const std::exception& e) {
      problem(fmt::format("{}:{}", name, line), e.what());
      continue;
    }
    row(json, line);
  }
}

void read_jsonl(const fs::path& file, const std::function<void(const nlohmann::json&, std::size_t)>& row,
                const std::function<void(const std::string&, const std::string&)>& problem) {
  parse_jsonl(read_file(file, kMaxTableBytes), file.string(), row, problem);
}

}  // namespace mmkd
