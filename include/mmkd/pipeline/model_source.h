#pragma once
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "mmkd/config/config.h"
#include "mmkd/data/packed.h"
#include "mmkd/distill/objective.h"
#include "mmkd/models/multimodal_model.h"
#include "mmkd/pipeline/plan.h"

namespace mmkd {

/// A configured model: its size, and the files that its first weights come from.
struct ModelSource {
  Role role = Role::teacher;
  ModelSpec spec;
  std::string vision_name, text_name;                        ///< as results.json names them
  std::filesystem::path vision_checkpoint, text_checkpoint;  ///< Hugging Face folders; empty: from scratch
  std::filesystem::path weights;                             ///< of the whole model; empty: none
  std::vector<std::string> task_slugs;

  struct Widths {
    std::int64_t vision = 0, text = 0;
  };
  Widths widths() const { return {spec.vision.hidden_size, spec.text.hidden_size}; }
  /// "<role>/<part>" and every weight file, for the stage key.
  std::vector<std::pair<std::string, std::filesystem::path>> files() const;
};

/// Reads the towers' config.json where they come from folders. Throws UsageError for missing folders, and for a
/// vocabulary that does not fit the packed tokens.
ModelSource resolve_model(const Config& config, Role role, const PackedInfo& packed);

ParameterCounts count_parameters(const ModelSource& source);

/// The model with its first weights: keyed random numbers, then the towers' checkpoints, then the whole model's file;
/// `objective`'s projections too where that file has them.
std::shared_ptr<MultimodalModel> initial_model(const ModelSource& source, std::uint64_t seed, Objective& objective);

}  // namespace mmkd
