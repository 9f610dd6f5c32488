#include <algorithm>
#include <map>

#include "keys.h"
#include "mmkd/config/print.h"
#include "problems.h"
#include "values.h"

namespace mmkd {
namespace {

using namespace config_detail;

constexpr const char* kIntroduction = R"(# Configuration

<!-- Generated from src/config/keys.cpp; a test compares the two and says how to write it anew. -->

A configuration is one YAML file, UTF-8, with the sections below. Every key may be left out unless its default says
otherwise. `config/` has ready ones.

- **Paths** that are relative start from the working folder of the program, not from the file's folder.
- **`--set section.key=value`** sets a key from the command line, after the file was read; the value is YAML (`--set
  training.betas=[0.9,0.98]`, `--set teacher.vision={family: vit, hidden_size: 64}` in quotes for the shell). A section
  that is set is replaced whole. The last one wins.
- **`mmkd config show CONFIG`** prints every key with its value and where the value came from.
- **Errors** are reported all at once, as `file:line:column: key: expected …, found …`; the exit code is 2.
- **`null`** or an empty value gives a key its default back, where the default is written in words.
- Yes and no are `true`/`false`, `yes`/`no`, `on`/`off`. Numbers may be quoted and may be written `3e-4`.
- Anchors, aliases and merge keys (`<<`) work. A file has at most 1 MiB, 32 levels and 10,000 values.
)";

/// The type as a table cell: `fp32`, `bf16` for names, words otherwise.
std::string type_text(const Key& key) {
  std::string text;
  const auto* names = std::get_if<EnumTarget>(&key.target);
  for (const auto name : names ? names->names : std::span<const std::string_view>(key.choices))
    text += fmt::format("{}`{}`", text.empty() ? "" : ", ", name);
  if (!text.empty()) return text;
  text = expected(key);
  for (const std::string_view tail : {" or null", " from 1 to 2147483647", " to 2147483647"})
    if (const auto at = text.find(tail); at != std::string::npos) {
      text.erase(at, tail.size());
      if (tail.find("from 1") != std::string_view::npos) text.insert(at, " from 1");
    }
  for (const std::string_view article : {"an ", "a "})
    if (text.substr(0, article.size()) == article) text.erase(0, article.size());
  return text;
}

std::string default_text(const Key& key) {
  if (std::holds_alternative<IgnoredTarget>(key.target)) return "";
  return is_unset(key) ? key.unset : fmt::format("`{}`", value_yaml(key));
}

/// teacher.x and student.x are documented together, under the teacher's name.
std::string documented_section(const Key& key, const std::map<std::string, const Key*>& keys) {
  std::string section = key.section();
  const std::string_view student = "student";
  if (section.compare(0, student.size(), student) != 0) return section;
  const std::string twin = "teacher" + section.substr(student.size());
  return section == student || keys.count(child_path(twin, key.name())) != 0 ? twin : section;
}

std::string heading(const std::string& section) {
  const std::string_view teacher = "teacher";
  if (section.empty()) return "top level";
  if (section.compare(0, teacher.size(), teacher) != 0) return fmt::format("`{}`", section);
  return fmt::format("`{}`, `student{}`", section, section.substr(teacher.size()));
}

std::string row(const Key& key, const std::map<std::string, const Key*>& keys) {
  std::string value = default_text(key);
  std::string name = fmt::format("`{}`", key.name());
  if (key.path.compare(0, 8, "teacher.") == 0) {
    const auto twin = keys.find("student." + key.path.substr(8));
    if (twin == keys.end())
      name += " (teacher)";
    else if (const auto student = default_text(*twin->second); student != value)
      value = fmt::format("{} (teacher), {} (student)", value, student);
  } else if (key.section() == "student") {
    name += " (student)";
  }
  return fmt::format("| {} | {} | {} | {} |\n", name, type_text(key), value, key.meaning);
}

}  // namespace

std::string configuration_reference() {
  Config defaults;
  const auto keys = bind_keys(defaults);
  std::map<std::string, const Key*> by_path;
  for (const auto& key : keys) by_path[key.path] = &key;

  std::vector<std::string> order;
  std::map<std::string, std::string> tables;
  for (const auto& key : keys) {
    const std::string section = documented_section(key, by_path);
    const bool twin = key.path.compare(0, 8, "student.") == 0 && by_path.count("teacher." + key.path.substr(8)) != 0;
    if (twin) continue;
    if (tables[section].empty()) {
      // A model's own keys come behind its towers in a file, but are read first.
      const std::string parent = parent_path(section);
      if (parent == "teacher" && std::find(order.begin(), order.end(), parent) == order.end()) order.push_back(parent);
      if (std::find(order.begin(), order.end(), section) == order.end()) order.push_back(section);
    }
    tables[section] += row(key, by_path);
  }

  std::string text = kIntroduction;
  for (const auto& section : order) {
    text += fmt::format("\n## {}\n\n", heading(section));
    if (const auto meaning = section_meaning(section); !meaning.empty()) text += fmt::format("{}\n\n", meaning);
    text += "| key | type | default | meaning |\n|---|---|---|---|\n" + tables[section];
  }
  return text;
}

}  // namespace mmkd
