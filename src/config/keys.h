#pragma once
#include <array>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "mmkd/config/config.h"

// The one list of all keys. Parsing, overrides, printing, JSON and the reference walk it; a key that is not in it does
// not exist.
namespace mmkd::config_detail {

/// An enum member seen through its names: value i of the enum has names[i].
struct EnumTarget {
  std::span<const std::string_view> names;
  std::function<std::size_t()> get;
  std::function<void(std::size_t)> set;
};

/// Accepted with any content and not kept.
struct IgnoredTarget {};

using Target = std::variant<bool*, std::int64_t*, double*, std::string*, std::filesystem::path*, std::optional<bool>*,
                            std::optional<std::int64_t>*, std::optional<double>*, std::array<double, 2>*,
                            std::vector<std::int64_t>*, std::vector<std::string>*, std::vector<TaskConfig>*,
                            std::vector<LossTerm>*, EnumTarget, IgnoredTarget>;

/// Allowed numbers; an open end does not belong to it.
struct Range {
  double min = -std::numeric_limits<double>::infinity(), max = std::numeric_limits<double>::infinity();
  bool min_open = false, max_open = false;
  bool contains(double value) const {
    return (min_open ? value > min : value >= min) && (max_open ? value < max : value <= max);
  }
};

/// Whether a section may be given as one text, which sets this key of it.
enum class Shorthand {
  no,
  alone,  ///< yes, and the section's other keys mean nothing beside this one (a tower's name beside a size)
  shared  ///< yes, and the section's other keys add to it (a tokenizer's name and its settings)
};

struct Key {
  std::string path;  ///< "teacher.vision.hidden_size"
  Target target;     ///< in the Config that was bound
  std::string meaning;
  Range range;                            ///< numbers
  std::vector<std::string_view> choices;  ///< text: allowed values; empty: any
  std::string unset;                      ///< what holds when there is no value; empty: unset cannot be given
  Shorthand shorthand = Shorthand::no;
  std::function<bool()>
      applies;  ///< empty: always; false: the rest of the configuration gives it no meaning, not printed
  std::string section() const;  ///< "teacher.vision"; "" at the top
  std::string name() const;     ///< "hidden_size"
};

/// All keys in the order of the documents, bound to the members of `config`, which must outlive the list.
std::vector<Key> bind_keys(Config& config);

/// What a section is about, for the reference: "" if it needs no words.
std::string_view section_meaning(std::string_view section);

/// "a.b", "c" -> "a.b.c"; "", "c" -> "c".
std::string child_path(std::string_view section, std::string_view name);
/// "a.b.c" -> "a.b", "a" -> "".
std::string parent_path(const std::string& path);

}  // namespace mmkd::config_detail
