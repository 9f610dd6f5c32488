#include "values.h"

#include <fmt/ranges.h>

#include <cctype>
#include <charconv>
#include <cmath>
#include <type_traits>

#include "loss_terms.h"
#include "mmkd/base/error.h"
#include "suggest.h"

namespace mmkd::config_detail {
namespace {

std::string number_text(double value) { return fmt::format("{}", value); }

std::string range_text(const Range& range) {
  const bool low = std::isfinite(range.min), high = std::isfinite(range.max);
  if (low && high && !range.min_open && !range.max_open)
    return fmt::format(" from {:.0f} to {:.0f}", range.min, range.max);
  if (low && high)
    return fmt::format(" in {}{}, {}{}", range.min_open ? '(' : '[', number_text(range.min), number_text(range.max),
                       range.max_open ? ')' : ']');
  if (low) return (range.min_open ? " above " : " of at least ") + number_text(range.min);
  return "";
}

std::string quoted_list(std::span<const std::string_view> names) {
  std::string text;
  for (const auto name : names) text += fmt::format("{}\"{}\"", text.empty() ? "" : ", ", name);
  return text;
}

std::optional<bool> parse_bool(std::string_view text) {
  // YAML 1.1, which most writers of such files have in mind.
  for (const auto yes : {"true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"})
    if (text == yes) return true;
  for (const auto no : {"false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"})
    if (text == no) return false;
  return std::nullopt;
}

template <class Number>
std::optional<Number> parse_number(std::string_view text, const Range& range) {
  if (text.size() > 1 && text[0] == '+' && text[1] != '-') text.remove_prefix(1);
  Number value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  if (!std::isfinite(static_cast<double>(value)) || !range.contains(static_cast<double>(value))) return std::nullopt;
  return value;
}

/// Null, or an empty text, where a key may be without a value.
bool means_unset(const Key& key, const Node& node) {
  return !key.unset.empty() &&
         (node.kind == Node::Kind::null || (node.kind == Node::Kind::scalar && node.text.empty()));
}

std::string mismatch(const Key& key, const Node& node) {
  return fmt::format("expected {}, found {}", expected(key), node.describe());
}

/// One overload per kind of target; false: the node does not fit.
struct Assigner {
  const Key& key;
  const Node& node;
  const Report& report;

  bool scalar() const { return node.kind == Node::Kind::scalar; }

  template <class T>
  bool take(T* target, std::optional<T> value) const {
    if (value) *target = *value;
    return value.has_value();
  }
  bool operator()(bool* target) const { return scalar() && take(target, parse_bool(node.text)); }
  bool operator()(std::int64_t* target) const {
    return scalar() && take(target, parse_number<std::int64_t>(node.text, key.range));
  }
  bool operator()(double* target) const { return scalar() && take(target, parse_number<double>(node.text, key.range)); }

  template <class T>
  bool operator()(std::optional<T>* target) const {
    if (means_unset(key, node)) {
      target->reset();
      return true;
    }
    T value{};
    if (!(*this)(&value)) return false;
    *target = value;
    return true;
  }

  bool operator()(std::string* target) const {
    if (means_unset(key, node)) {
      target->clear();
      return true;
    }
    if (!scalar() || node.text.empty()) return false;
    if (!key.choices.empty()) return choose(key.choices, [&](std::size_t) { *target = node.text; });
    *target = node.text;
    return true;
  }
  bool operator()(std::filesystem::path* target) const {
    std::string text;
    if (!(*this)(&text)) return false;
    *target = text;
    return true;
  }

  template <class Set>
  bool choose(std::span<const std::string_view> names, const Set& set) const {
    for (std::size_t i = 0; i < names.size(); ++i) {
      if (names[i] != node.text) continue;
      set(i);
      return true;
    }
    return false;
  }
  bool operator()(const EnumTarget& target) const { return scalar() && choose(target.names, target.set); }

  bool operator()(std::array<double, 2>* target) const {
    if (node.kind != Node::Kind::list || node.items.size() != 2) return false;
    std::array<double, 2> values{};
    for (std::size_t i = 0; i < 2; ++i) {
      const auto value = parse_number<double>(node.items[i].text, key.range);
      if (!value) return false;
      values[i] = *value;
    }
    *target = values;
    return true;
  }

  bool operator()(std::vector<std::int64_t>* target) const {
    return list(target, [&](const Node& item) { return parse_number<std::int64_t>(item.text, key.range); });
  }
  bool operator()(std::vector<std::string>* target) const {
    if (scalar() && !node.text.empty()) {  // one
      *target = {node.text};
      return true;
    }
    return list(target, [](const Node& item) {
      return item.text.empty() ? std::nullopt : std::optional<std::string>(item.text);
    });
  }
  /// A list of scalars that `parse` takes; not empty unless the key may be unset.
  template <class T, class Parse>
  bool list(std::vector<T>* target, const Parse& parse) const {
    std::vector<T> values;
    if (!means_unset(key, node)) {
      if (node.kind != Node::Kind::list || node.items.empty()) return false;
      for (const Node& item : node.items) {
        const auto value = item.kind == Node::Kind::scalar ? parse(item) : std::nullopt;
        if (!value) return false;
        values.push_back(*value);
      }
    }
    *target = std::move(values);
    return true;
  }

  bool operator()(std::vector<LossTerm>* target) const {
    target->clear();
    if (means_unset(key, node)) return true;
    if (node.kind != Node::Kind::list || node.items.empty()) return false;
    for (const Node& item : node.items)
      target->push_back(loss_term(item, fmt::format("{}[{}]", key.path, target->size()), report));
    return true;
  }

  bool operator()(std::vector<TaskConfig>* target) const {
    if (means_unset(key, node)) {
      target->clear();
      return true;
    }
    if (node.kind != Node::Kind::list) return false;
    target->clear();
    for (const Node& item : node.items) {
      const std::string path = fmt::format("{}[{}]", key.path, target->size());
      target->push_back(task(item, path));
    }
    return true;
  }

  /// `{label: shape, column: Shape}`, or `shape` for both. Reports its own problems.
  TaskConfig task(const Node& item, const std::string& path) const {
    static constexpr std::array<std::string_view, 2> kNames{"label", "column"};
    TaskConfig result;
    if (item.kind == Node::Kind::scalar && !item.text.empty()) {
      result.label = result.column = item.text;
      return result;
    }
    if (item.kind != Node::Kind::map) {
      report(item.place, path,
             fmt::format("expected a name or a map with label and column, found {}", item.describe()));
      return result;
    }
    for (const auto& [name, place, value] : item.entries) {
      const std::string member = child_path(path, name);
      if (name != "label" && name != "column")
        report(place, member, "unknown key" + did_you_mean(name, kNames));
      else if (value.kind != Node::Kind::scalar || value.text.empty())
        report(value.place, member, fmt::format("expected text, found {}", value.describe()));
      else
        (name == "label" ? result.label : result.column) = value.text;
    }
    if (!item.find("label")) report(item.place, path + ".label", "expected text, found nothing");
    if (!item.find("column")) result.column = result.label;
    return result;
  }

  bool operator()(const IgnoredTarget&) const { return true; }
};

struct TypeText {
  const Key& key;
  std::string operator()(bool*) const { return "true or false"; }
  std::string operator()(std::int64_t*) const { return "an integer" + range_text(key.range); }
  std::string operator()(double*) const { return "a number" + range_text(key.range); }
  std::string operator()(std::string*) const {
    return key.choices.empty() ? "text" : "one of " + quoted_list(key.choices);
  }
  std::string operator()(std::filesystem::path*) const { return "a path"; }
  template <class T>
  std::string operator()(std::optional<T>*) const {
    return (*this)(static_cast<T*>(nullptr)) + " or null";
  }
  std::string operator()(std::array<double, 2>*) const { return "a list of two numbers" + range_text(key.range); }
  std::string operator()(std::vector<std::int64_t>*) const {
    return "a list of integers" + range_text(key.range) + (key.unset.empty() ? "" : " or null");
  }
  std::string operator()(std::vector<std::string>*) const { return "a list of texts"; }
  std::string operator()(std::vector<LossTerm>*) const { return "a list of loss terms"; }
  std::string operator()(std::vector<TaskConfig>*) const { return "a list of tasks"; }
  std::string operator()(const EnumTarget& target) const { return "one of " + quoted_list(target.names); }
  std::string operator()(const IgnoredTarget&) const { return "anything"; }
};

struct ToJson {
  template <class T>
  nlohmann::json operator()(T* value) const {
    return *value;
  }
  template <class T>
  nlohmann::json operator()(std::optional<T>* value) const {
    return *value ? nlohmann::json(**value) : nlohmann::json();
  }
  nlohmann::json operator()(std::filesystem::path* value) const { return value->string(); }
  nlohmann::json operator()(std::vector<TaskConfig>* value) const {
    auto list = nlohmann::json::array();
    for (const auto& task : *value) list.push_back({{"label", task.label}, {"column", task.column}});
    return list;
  }
  nlohmann::json operator()(std::vector<LossTerm>* value) const {
    auto list = nlohmann::json::array();
    for (const auto& term : *value) list.push_back(term_json(term));
    return list;
  }
  nlohmann::json operator()(const EnumTarget& target) const { return target.names[target.get()]; }
  nlohmann::json operator()(const IgnoredTarget&) const { return {}; }
};

bool is_plain(const std::string& text) {
  static constexpr std::string_view kSafe = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./-+ ";
  if (text.empty() || text == "~" || text == "null" || text == "Null" || text == "NULL") return false;
  if (!std::isalnum(static_cast<unsigned char>(text.front())) && text.front() != '/' && text.front() != '_' &&
      !(text.front() == '.' && text != "..." && text.size() > 1))
    return false;
  return text.back() != ' ' && text.find_first_not_of(kSafe) == std::string::npos;
}

/// JSON's quoting is YAML's double quoting.
std::string text_yaml(const std::string& text) {
  if (is_plain(text)) return text;
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

struct ToYaml {
  std::string operator()(bool* value) const { return *value ? "true" : "false"; }
  std::string operator()(std::int64_t* value) const { return fmt::format("{}", *value); }
  std::string operator()(double* value) const { return number_text(*value); }
  std::string operator()(std::string* value) const { return text_yaml(*value); }
  std::string operator()(std::filesystem::path* value) const { return text_yaml(value->string()); }
  template <class T>
  std::string operator()(std::optional<T>* value) const {
    return (*this)(&**value);
  }
  std::string operator()(std::array<double, 2>* value) const {
    return fmt::format("[{}, {}]", number_text((*value)[0]), number_text((*value)[1]));
  }
  std::string operator()(std::vector<TaskConfig>* value) const {
    std::string list;
    for (const auto& task : *value)
      list += fmt::format("{}{{label: {}, column: {}}}", list.empty() ? "" : ", ", text_yaml(task.label),
                          text_yaml(task.column));
    return "[" + list + "]";
  }
  std::string operator()(std::vector<std::int64_t>* value) const {
    return fmt::format("[{}]", fmt::join(*value, ", "));
  }
  std::string operator()(std::vector<std::string>* value) const {
    std::string list;
    for (const auto& text : *value) list += (list.empty() ? "" : ", ") + text_yaml(text);
    return "[" + list + "]";
  }
  /// JSON is YAML.
  std::string operator()(std::vector<LossTerm>* value) const {
    std::string list;
    for (const auto& term : *value) list += (list.empty() ? "" : ", ") + term_json(term).dump();
    return "[" + list + "]";
  }
  std::string operator()(const EnumTarget& target) const { return std::string(target.names[target.get()]); }
  std::string operator()(const IgnoredTarget&) const { return "null"; }
};

struct Unset {
  template <class T>
  bool operator()(T*) const {
    return false;
  }
  template <class T>
  bool operator()(std::optional<T>* value) const {
    return !value->has_value();
  }
  bool operator()(std::string* value) const { return value->empty(); }
  bool operator()(std::filesystem::path* value) const { return value->empty(); }
  template <class T>
  bool operator()(std::vector<T>* value) const {
    return value->empty();
  }
  bool operator()(const EnumTarget&) const { return false; }
  bool operator()(const IgnoredTarget&) const { return true; }
};

std::span<const std::string_view> choices_of(const Key& key) {
  if (const auto* target = std::get_if<EnumTarget>(&key.target)) return target->names;
  return key.choices;
}

}  // namespace

void assign(const Key& key, const Node& node, const Report& report) {
  if (std::visit(Assigner{key, node, report}, key.target)) return;
  std::string message = mismatch(key, node);
  if (node.kind == Node::Kind::scalar) message += did_you_mean(node.text, choices_of(key));
  report(node.place, key.path, message);
}

std::string expected(const Key& key) { return std::visit(TypeText{key}, key.target); }

bool is_unset(const Key& key) { return std::visit(Unset{}, key.target); }

nlohmann::json value_json(const Key& key) {
  return is_unset(key) ? nlohmann::json() : std::visit(ToJson{}, key.target);
}

std::string value_yaml(const Key& key) { return is_unset(key) ? "null" : std::visit(ToYaml{}, key.target); }

}  // namespace mmkd::config_detail
