#include "mmkd/data/prediction_rows.h"

#include <nlohmann/json.hpp>

#include "mmkd/base/error.h"
#include "mmkd/base/mapped_file.h"
#include "mmkd/data/tables.h"
#include "table_cells.h"

namespace mmkd {
namespace {

namespace fs = std::filesystem;

class Reader {
 public:
  Reader(const fs::path& table, const PredictionColumns& columns, const fs::path& image_root)
      : table_(table), columns_(columns), image_root_(image_root) {}

  template <class Cells>
  PredictionRow row(const Cells& cells, std::size_t line) {
    PredictionRow row;
    row.where = fmt::format("{}:{}", table_.string(), line);
    const auto id = find_cell(cells, columns_.id);
    row.id = id ? trimmed(*id) : std::to_string(number_);
    if (row.id.empty()) throw Error("the id (column '{}') is empty", columns_.id);
    require_utf8(row.id, "id");
    const auto image = trimmed(find_cell(cells, columns_.image).value_or(""));
    if (!image.empty()) row.image = fs::path(image).is_absolute() ? fs::path(image) : image_root_ / image;
    row.text = trimmed(find_cell(cells, columns_.text).value_or(""));
    require_utf8(row.text, "text");
    if (row.image.empty() && row.text.empty())
      throw Error("there is neither an image ('{}') nor a text ('{}')", columns_.image, columns_.text);
    return row;
  }

  /// A row comes, usable or not.
  void count() { ++number_; }

  /// A table in which no row can have either is named as such.
  void require_columns(const std::map<std::string, std::string>& cells) const {
    if (find_cell(cells, columns_.image) || find_cell(cells, columns_.text)) return;
    std::string have;
    for (const auto& [name, value] : cells) have += (have.empty() ? "" : ", ") + name;
    throw Error("{}: has neither a column '{}' nor '{}', but {}; say which hold images and texts", table_.string(),
                columns_.image, columns_.text, have);
  }

 private:
  const fs::path& table_;
  const PredictionColumns& columns_;
  const fs::path& image_root_;
  std::size_t number_ = 0;
};

}  // namespace

void read_prediction_rows(const fs::path& table, const PredictionColumns& columns, const fs::path& image_root,
                          const std::function<void(const PredictionRow&)>& row,
                          const std::function<void(const std::string&, const std::string&)>& problem) {
  const auto extension = table.extension();
  if (extension != ".csv" && extension != ".jsonl")
    throw UsageError("{}: expected a file that ends in .csv or .jsonl", table.string());
  const MappedFile file(table);
  const std::string_view text(reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size());
  Reader reader(table, columns, image_root);
  // What is wrong with a row is told from what happens to it afterwards.
  const auto take = [&](const auto& cells, std::size_t line) {
    PredictionRow made;
    reader.count();
    try {
      made = reader.row(cells, line);
    } catch (const Error& e) {
      problem(fmt::format("{}:{}", table.string(), line), e.what());
      return;
    }
    row(made);
  };
  const auto malformed = [&](const std::string& where, const std::string& what) {
    reader.count();
    problem(where, what);
  };
  if (extension == ".csv") {
    bool first = true;
    parse_csv(
        text, table.string(),
        [&](const std::map<std::string, std::string>& cells, std::size_t line) {
          if (std::exchange(first, false)) reader.require_columns(cells);
          take(cells, line);
        },
        malformed);
  } else {
    parse_jsonl(text, table.string(), take, malformed);
  }
}

}  // namespace mmkd
