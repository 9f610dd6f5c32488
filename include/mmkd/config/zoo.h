#pragma once
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

namespace mmkd {

enum class TowerKind { vision, text };

/// Hugging Face id of a friendly name ("vit-base" -> "google/vit-base-patch16-224"); nothing for names that are not in
/// the zoo. Throws UsageError for names of the original system that no real checkpoint has.
std::optional<std::string> zoo_id(TowerKind kind, const std::string& name);

/// The local folder of a model: `name` as a folder; else its Hugging Face id (of the zoo, or `name` itself) below
/// `weights_root` (org/name, org--name, or name alone), else in the Hugging Face cache
/// (`hf_home`/hub/models--org--name/ snapshots/<revision of refs/main, else the newest>). Throws UsageError naming
/// every place that was looked at and the files to get.
std::filesystem::path resolve_model_folder(TowerKind kind, const std::string& name,
                                           const std::filesystem::path& weights_root,
                                           const std::filesystem::path& hf_home);

/// $HF_HOME, else ~/.cache/huggingface.
std::filesystem::path default_hf_home();

}  // namespace mmkd
