#pragma once
#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "mmkd/config/config.h"
#include "mmkd/stages/stage.h"

namespace mmkd {

/// Where the first weights of a model come from.
struct ModelFiles {
  std::filesystem::path vision, text;  ///< Hugging Face folders of the towers; empty: from scratch
  std::filesystem::path weights;       ///< of the whole model; empty: none

  /// "<prefix>/<part>/<file>" of every file there is, part being "vision", "text" or "weights".
  std::vector<std::pair<std::string, std::filesystem::path>> named(const std::string& prefix) const;
};

/// Throws UsageError for towers that are not found.
ModelFiles model_files(const ModelConfig& model, const std::filesystem::path& weights,
                       const std::filesystem::path& weights_root);

/// SHA-256 of every file that the job's models start from, by "teacher/…", "teacher.1/…", "student/…": what
/// make_plan() takes as `external`.
std::map<std::string, std::string> external_digests(const Config& config, DigestMemo& memo);

}  // namespace mmkd
