#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "mmkd/config/config.h"
#include "mmkd/data/packed.h"
#include "mmkd/distill/objective.h"
#include "mmkd/models/multimodal_model.h"
#include "mmkd/plan/model_files.h"
#include "mmkd/plan/plan.h"

namespace mmkd {

/// A configured model: its size, and the files that its first weights come from.
struct ModelSource {
  Role role = Role::teacher;
  std::size_t number = 0;  ///< among several teachers
  std::uint64_t seed = 0;
  bool trained = true;  ///< false: a teacher that is taken as its weights make it
  ModelSpec spec;
  std::string vision_name, text_name;  ///< as results.json names them
  ModelFiles files;                    ///< what its first weights come from
  std::vector<std::string> task_slugs;

  struct Widths {
    std::int64_t vision = 0, text = 0;
  };
  /// Of img_raw and txt_raw; 0 for a modality that the model does not read.
  Widths widths() const;
};

/// Read the towers' config.json where they come from folders. Throw UsageError for missing folders, for a vocabulary
/// that does not fit the packed tokens, and for texts longer than the tower takes.
std::vector<ModelSource> resolve_teachers(const Config& config, const PackedInfo& packed);
ModelSource resolve_student(const Config& config, const PackedInfo& packed);

ParameterCounts count_parameters(const ModelSource& source);

/// The model with its first weights: keyed random numbers, then the towers' checkpoints, then the whole model's file;
/// `objective`'s projections too where that file has them.
std::shared_ptr<MultimodalModel> initial_model(const ModelSource& source, std::uint64_t seed, Objective& objective);

}  // namespace mmkd
