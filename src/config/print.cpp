#include "mmkd/config/print.h"

#include <algorithm>
#include <set>
#include <stdexcept>

#include "keys.h"
#include "loss_terms.h"
#include "mmkd/config/names.h"
#include "problems.h"
#include "values.h"

namespace mmkd {
namespace {

using namespace config_detail;

/// What is printed: a tower's name or its size, not both; a tokenizer of which only the name is set as that name.
struct Entry {
  const Key* key;
  std::string path;  ///< of the section, for a shorthand
};

/// The section's shorthand key if that key alone is to stand for the section, else null.
const Key* standing_for_section(const std::vector<const Key*>& section) {
  const auto shorthand =
      std::find_if(section.begin(), section.end(), [](const Key* key) { return key->shorthand != Shorthand::no; });
  if (shorthand == section.end()) return nullptr;
  const bool others_unset =
      std::all_of(section.begin(), section.end(), [&](const Key* key) { return key == *shorthand || is_unset(*key); });
  const bool alone = (*shorthand)->shorthand == Shorthand::alone ? !is_unset(**shorthand) : others_unset;
  return alone ? *shorthand : nullptr;
}

std::vector<Entry> printed_entries(const std::vector<Key>& keys) {
  std::vector<Entry> entries;
  for (auto begin = keys.begin(); begin != keys.end();) {
    const std::string section = begin->section();
    const auto end = std::find_if(begin, keys.end(), [&](const Key& key) { return key.section() != section; });
    std::vector<const Key*> members;
    for (auto key = begin; key != end; ++key)
      if (!std::holds_alternative<IgnoredTarget>(key->target) && (!key->applies || key->applies()))
        members.push_back(&*key);
    begin = end;
    if (const Key* shorthand = standing_for_section(members)) {
      entries.push_back({shorthand, section});
      continue;
    }
    for (const Key* key : members)
      if (key->shorthand != Shorthand::alone) entries.push_back({key, key->path});
  }
  return entries;
}

/// Section headings and keys, one line each; `comment` gives what stands behind a key's value ("" for nothing).
template <class Comment>
std::string yaml_lines(Config config, const Comment& comment) {
  constexpr std::size_t kCommentColumn = 44;
  const auto keys = bind_keys(config);
  std::string text;
  std::set<std::string> opened;
  for (const auto& [key, path] : printed_entries(keys)) {
    std::string indent;
    for (std::size_t dot = path.find('.'); dot != std::string::npos; dot = path.find('.', dot + 1)) {
      const std::string section = path.substr(0, dot);
      const auto name_at = section.rfind('.') + 1;  // npos + 1 is 0
      if (opened.insert(section).second) text += fmt::format("{}{}:\n", indent, section.substr(name_at));
      indent += "  ";
    }
    std::string line = fmt::format("{}{}: {}", indent, path.substr(path.rfind('.') + 1), value_yaml(*key));
    if (const std::string words = comment(*key); !words.empty()) {
      line.resize(std::max(line.size(), kCommentColumn), ' ');
      line += "  # " + words;
    }
    text += line + "\n";
  }
  return text;
}

nlohmann::json nested(const std::vector<Entry>& entries) {
  auto result = nlohmann::json::object();
  for (const auto& [key, path] : entries) {
    nlohmann::json* at = &result;
    std::size_t begin = 0;
    for (std::size_t dot; (dot = path.find('.', begin)) != std::string::npos; begin = dot + 1)
      at = &(*at)[path.substr(begin, dot - begin)];
    (*at)[path.substr(begin)] = value_json(*key);
  }
  return result;
}

bool lies_in(std::string_view path, std::string_view section) {
  return path.substr(0, section.size()) == section && (path.size() == section.size() || path[section.size()] == '.');
}

std::string without_backticks(std::string markdown) {
  std::erase(markdown, '`');
  return markdown;
}

std::string loss_text(const Config& config) {
  std::string text;
  for (const auto& term : resolved_loss(config)) text += (text.empty() ? "" : " ") + term_json(term).dump();
  return text;
}

std::string tasks_text(const Config& config) {
  std::string text;
  for (const auto& task : resolved_tasks(config.data))
    text += fmt::format("{}{} (column {})", text.empty() ? "" : ", ", task.label, task.column);
  return text;
}

}  // namespace

std::string to_yaml(const Config& config) {
  return yaml_lines(config, [](const Key&) { return std::string(); });
}

std::string config_show(const LoadedConfig& loaded) {
  std::string text = yaml_lines(loaded.config, [&](const Key& key) {
    const std::string& source = loaded.source.at(key.path);
    return source == "default" && is_unset(key) ? "default: " + without_backticks(key.unset) : source;
  });
  text += "\n# loss:      " + loss_text(loaded.config);
  text += "\n# tasks:     " + tasks_text(loaded.config);
  text += "\n# artifacts: " + artifacts_root(loaded.config).string() + "\n";
  for (const auto& note : loaded.notes) text += "# note:      " + note + "\n";
  return text;
}

nlohmann::json to_json(const Config& config) {
  Config copy = config;
  const auto keys = bind_keys(copy);
  return nested(printed_entries(keys));
}

nlohmann::json to_json(const std::vector<LossTerm>& terms) {
  auto list = nlohmann::json::array();
  for (const auto& term : terms) list.push_back(term_json(term));
  return list;
}

nlohmann::json subset(const Config& config, std::initializer_list<std::string_view> wanted) {
  Config copy = config;
  const auto keys = bind_keys(copy);
  for (const auto path : wanted)
    if (std::none_of(keys.begin(), keys.end(), [&](const Key& key) { return lies_in(key.path, path); }))
      throw std::invalid_argument(fmt::format("no key or section of the configuration is called {}", path));
  auto entries = printed_entries(keys);
  std::erase_if(entries, [&](const Entry& entry) {
    return std::none_of(wanted.begin(), wanted.end(), [&](auto path) { return lies_in(entry.key->path, path); });
  });
  return nested(entries);
}

}  // namespace mmkd
