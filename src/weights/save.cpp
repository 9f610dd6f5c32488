#include "mmkd/weights/save.h"

#include <nlohmann/json.hpp>

#include "mmkd/base/error.h"
#include "mmkd/weights/state_dict.h"
#include "mmkd/weights/tensors.h"

namespace mmkd {
namespace {

const std::string& required(const std::map<std::string, std::string>& metadata, const std::string& key,
                            const std::string& where) {
  const auto found = metadata.find(key);
  if (found == metadata.end()) throw Error("{}: no model that mmkd saved: its metadata lacks '{}'", where, key);
  return found->second;
}

}  // namespace

std::map<std::string, std::string> to_metadata(const ModelDescription& description) {
  nlohmann::ordered_json tasks = nlohmann::ordered_json::array();
  for (const auto& task : description.tasks) tasks.push_back({{"label", task.label}, {"classes", task.classes}});
  std::map<std::string, std::string> metadata{
      {"format", "pt"}, {"mmkd_version", description.version}, {"tasks", tasks.dump()}};
  if (!description.model.empty()) metadata.emplace("mmkd_model", description.model);
  return metadata;
}

ModelDescription description_of(const std::map<std::string, std::string>& metadata, const std::string& where) {
  ModelDescription description;
  description.version = required(metadata, "mmkd_version", where);
  const std::string& tasks = required(metadata, "tasks", where);
  try {
    for (const auto& task : nlohmann::json::parse(tasks)) {
      description.tasks.push_back({task.at("label"), task.at("classes").get<std::vector<std::string>>()});
    }
  } catch (const nlohmann::json::exception& error) {
    throw Error("{}: its metadata 'tasks' is malformed: {}", where, error.what());
  }
  if (const auto model = metadata.find("mmkd_model"); model != metadata.end()) description.model = model->second;
  return description;
}

void save_model(const std::filesystem::path& folder, const std::string& name, std::span<const nn::WeightEntry> entries,
                const ModelDescription& description) {
  std::vector<NamedTensor> tensors;
  for (const auto& entry : entries) tensors.push_back({entry.name, entry.view});
  save_tensors(folder / (name + ".safetensors"), tensors, to_metadata(description));
  save_state_dict(folder / (name + ".pth"), tensors);
}

}  // namespace mmkd
