#pragma once
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "mmkd/nn/weight_entry.h"

namespace mmkd {

/// A task of a saved model: the head's outputs are these classes, in this order.
struct TaskClasses {
  std::string label;  ///< display name
  std::vector<std::string> classes;
};

/// What the files say about the model beside its tensors.
struct ModelDescription {
  std::string version;  ///< of mmkd
  std::vector<TaskClasses> tasks;
  std::string model;  ///< everything that it takes to use the model, as JSON (ModelCard); empty: unknown
};

/// Metadata of the safetensors file: "format" is "pt", "mmkd_version", "tasks" as JSON ([{"label", "classes"}, …]), and
/// "mmkd_model" where it is known.
std::map<std::string, std::string> to_metadata(const ModelDescription& description);
/// The way back. Throws Error, starting with `where`, for metadata that this project did not write.
ModelDescription description_of(const std::map<std::string, std::string>& metadata, const std::string& where);

/// Writes `<folder>/<name>.safetensors` and `<folder>/<name>.pth` (save_state_dict()), each atomically, with the
/// tensors of `entries` under their names. Equal input gives equal bytes.
void save_model(const std::filesystem::path& folder, const std::string& name, std::span<const nn::WeightEntry> entries,
                const ModelDescription& description);

}  // namespace mmkd
