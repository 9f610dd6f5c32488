#include "mmkd/plan/model_files.h"

#include <fmt/format.h>

#include "mmkd/base/files.h"
#include "mmkd/config/teachers.h"
#include "mmkd/config/zoo.h"
#include "mmkd/formats/weight_files.h"
#include "mmkd/plan/plan.h"

namespace mmkd {

std::vector<std::pair<std::string, fs::path>> ModelFiles::named(const std::string& prefix) const {
  std::vector<std::pair<std::string, fs::path>> all;
  for (const auto& [part, path] : {std::pair("vision", &vision), {"text", &text}, {"weights", &weights}}) {
    if (path->empty()) continue;
    const std::string start = fmt::format("{}/{}/", prefix, part);
    for (const auto& file : weight_files(*path)) all.emplace_back(start + file.filename().string(), file);
    if (fs::is_directory(*path)) all.emplace_back(start + "config.json", *path / "config.json");
  }
  return all;
}

ModelFiles model_files(const ModelConfig& model, const fs::path& weights, const fs::path& weights_root) {
  ModelFiles files;
  files.weights = weights;
  if (model.arch == StudentArch::custom_tiny) return files;
  if (model.modality != Modality::text && !model.vision.inline_size())
    files.vision = resolve_model_folder(TowerKind::vision, model.vision.name, weights_root, default_hf_home());
  if (model.modality != Modality::image && !model.text.inline_size())
    files.text = resolve_model_folder(TowerKind::text, model.text.name, weights_root, default_hf_home());
  return files;
}

std::map<std::string, std::string> external_digests(const Config& config, DigestMemo& memo) {
  std::map<std::string, std::string> digests;
  const auto add = [&](const std::string& prefix, const ModelConfig& model, const fs::path& weights) {
    for (const auto& [name, file] : model_files(model, weights, config.weights.root).named(prefix))
      digests[name] = memo.file(file);
  };
  const auto teachers = teacher_sources(config);
  for (std::size_t i = 0; i < teachers.size(); ++i)
    add(numbered(name(Role::teacher), i), teachers[i].model, teachers[i].weights);
  if (!config.training.teacher_only) add(std::string(name(Role::student)), config.student, config.student.weights);
  return digests;
}

}  // namespace mmkd
