#pragma once
#include <cstdint>
#include <filesystem>
#include <vector>

#include "mmkd/config/config.h"

namespace mmkd {

/// One teacher of a job: its model, and how it comes by its weights.
struct TeacherSource {
  ModelConfig model;
  FusionConfig fusion;
  std::int64_t seed = 0;
  bool trained = true;            ///< false: its weights are taken as they are
  std::filesystem::path weights;  ///< of the whole model, to begin with; empty: none
};

/// The teachers of a job: one, or one for each of teacher.seeds or teacher.runs; none without a teacher. A run's
/// teacher is read from the folder's config.yaml and teacher.safetensors. Throws UsageError for a folder that has no
/// such files.
std::vector<TeacherSource> teacher_sources(const Config& config);

}  // namespace mmkd
