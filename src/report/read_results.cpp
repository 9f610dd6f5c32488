#include "read_results.h"

#include <algorithm>

namespace mmkd {
namespace {

using Json = nlohmann::ordered_json;

}  // namespace

const Json* find_value(const Json& json, std::initializer_list<std::string> path) {
  const Json* value = &json;
  for (const auto& key : path) {
    if (!value->is_object()) return nullptr;
    const auto found = value->find(key);
    if (found == value->end()) return nullptr;
    value = &*found;
  }
  return value->is_null() ? nullptr : value;
}

std::optional<double> find_number(const Json& json, std::initializer_list<std::string> path) {
  const auto* value = find_value(json, path);
  if (value == nullptr || !value->is_number()) return std::nullopt;
  return value->get<double>();
}

bool has_student(const Json& result) { return !result.at("models").at("student").is_null(); }

std::string loss_name(const Json& result) {
  const auto& loss = result.at("loss");
  if (loss.contains("type") && loss.at("type").is_string() && loss.at("type") != "terms")
    return loss.at("type").get<std::string>();
  std::string name;
  if (loss.contains("terms") && loss.at("terms").is_array()) {
    for (const auto& term : loss.at("terms")) {
      for (const auto& [key, value] : term.items()) name += (name.empty() ? "" : " + ") + key;
    }
  }
  return name;
}

std::vector<std::string> task_keys(const std::vector<FinishedRun>& runs) {
  std::vector<std::string> keys;
  for (const auto& run : runs) {
    for (const auto& task : run.results.front().at("data").at("tasks")) {
      const auto key = task.at("key").get<std::string>();
      if (std::find(keys.begin(), keys.end(), key) == keys.end()) keys.push_back(key);
    }
  }
  return keys;
}

}  // namespace mmkd
