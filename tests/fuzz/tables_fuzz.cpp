// libFuzzer target: the first byte chooses CSV or JSON lines, the rest is the file. A malformed table must end in Error
// or in a problem with its line; in what is accepted every row has the header's columns and lines never go back.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "mmkd/base/error.h"
#include "mmkd/data/tables.h"

namespace {

void require(bool holds) {
  if (!holds) std::abort();
}

void read_as_csv(const std::string& text) {
  std::size_t last_line = 0;
  std::size_t columns = 0;
  mmkd::parse_csv(
      text, "input",
      [&](const std::map<std::string, std::string>& cells, std::size_t line) {
        require(line > last_line);
        require(columns == 0 || cells.size() == columns);
        last_line = line;
        columns = cells.size();
      },
      [](const std::string& where, const std::string&) { require(where.starts_with("input:")); });
}

void read_as_jsonl(const std::string& text) {
  std::size_t last_line = 0;
  mmkd::parse_jsonl(
      text, "input",
      [&](const nlohmann::json& object, std::size_t line) {
        require(object.is_object() && line > last_line);
        last_line = line;
      },
      [](const std::string& where, const std::string&) { require(where.starts_with("input:")); });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string text(reinterpret_cast<const char*>(data) + 1, size - 1);
  try {
    if (data[0] == 'c') {
      read_as_csv(text);
    } else {
      read_as_jsonl(text);
    }
  } catch (const mmkd::Error&) {  // what a malformed table must end in
  }
  return 0;
}
