#include "table_cells.h"

#include "mmkd/base/error.h"

namespace mmkd {
namespace {

/// Names of what a row has, for messages.
std::string names_of(const auto& items) {
  std::string names;
  for (const auto& [name, value] : items) names += (names.empty() ? "" : ", ") + name;
  return names;
}

const nlohmann::json* find_key(const nlohmann::json& object, const std::string& key) {
  if (const auto whole = object.find(key); whole != object.end()) return &*whole;
  const auto dot = key.find('.');
  if (dot == std::string::npos) return nullptr;
  const auto outer = object.find(key.substr(0, dot));
  return outer != object.end() && outer->is_object() ? find_key(*outer, key.substr(dot + 1)) : nullptr;
}

}  // namespace

std::string trimmed(const std::string& text) {
  const char* space = " \t\r\n\v\f";
  const auto begin = text.find_first_not_of(space);
  return begin == std::string::npos ? "" : text.substr(begin, text.find_last_not_of(space) - begin + 1);
}

std::optional<std::string> find_cell(const std::map<std::string, std::string>& cells, const std::string& column) {
  const auto found = cells.find(column);
  return found == cells.end() ? std::nullopt : std::optional(found->second);
}

std::optional<std::string> find_cell(const nlohmann::json& object, const std::string& key) {
  const auto* value = find_key(object, key);
  if (value == nullptr) return std::nullopt;
  return value->is_string() ? value->get<std::string>() : value->is_null() ? "" : value->dump();
}

std::string required_cell(const std::map<std::string, std::string>& cells, const std::string& column) {
  if (auto found = find_cell(cells, column)) return std::move(*found);
  throw Error("there is no column '{}'; the table has {}", column, names_of(cells));
}

std::string required_cell(const nlohmann::json& object, const std::string& key) {
  if (auto found = find_cell(object, key)) return std::move(*found);
  throw Error("there is no key '{}'; the line has {}", key, names_of(object.items()));
}

void require_utf8(const std::string& text, const std::string& what) {
  try {
    (void)nlohmann::json(text).dump();
  } catch (const nlohmann::json::exception&) {
    throw Error("the {} is not UTF-8; save the table as UTF-8", what);
  }
}

std::filesystem::path path_below(const std::filesystem::path& root, const std::string& relative) {
  const std::filesystem::path path(relative);
  const auto normal = path.lexically_normal();
  if (relative.empty() || path.is_absolute() || normal.begin() == normal.end() || *normal.begin() == ".." ||
      relative.find('\0') != std::string::npos) {
    throw Error("image path '{}' is not below the data folder {}", relative, root.string());
  }
  return root / normal;
}

std::filesystem::path wound_image(const std::filesystem::path& root, const std::string& relative) {
  const auto image = path_below(root, relative);
  const auto below = path_below(root, "images/" + relative);
  return std::filesystem::exists(image) || !std::filesystem::exists(below) ? image : below;
}

void RowProblems::add(const std::string& where, const std::string& what) {
  constexpr std::size_t kMostProblems = 20;  // listed in one error
  ++count_;
  if (lines_.size() < kMostProblems) lines_.push_back(where + ": " + what);
}

void RowProblems::throw_if_any() const {
  if (count_ == 0) return;
  std::string text;
  for (const auto& line : lines_) text += "\n  " + line;
  if (count_ > lines_.size()) text += fmt::format("\n  … and {} more", count_ - lines_.size());
  throw Error("{}: {} bad rows:{}", table_.string(), count_, text);
}

}  // namespace mmkd
