#pragma once
#include <array>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "mmkd/config/load.h"
#include "mmkd/data/packed.h"
#include "mmkd/data/teacher_cache.h"
#include "mmkd/dist/world.h"
#include "mmkd/pipeline/model_source.h"
#include "mmkd/pipeline/plan.h"
#include "mmkd/pipeline/run.h"
#include "mmkd/report/results.h"
#include "mmkd/stages/stage.h"
#include "mmkd/train/batch.h"

namespace mmkd {

/// Everything the stages share: made once, read by all of them.
struct Job {
  const LoadedConfig& loaded;
  const Config& config;
  const RunOptions& options;
  const World& world;
  PackedInfo packed;
  std::array<InputSpec, 2> inputs;  ///< [teacher, student]
  std::optional<ModelSource> teacher, student;
  JobPlan plan;
  StageStore store;
  std::vector<StageResults> stages;  ///< filled as stages finish
};

inline constexpr const char* kTeacherCacheFile = "teacher_outputs.h5";
TeacherCacheLayout cache_layout(const Job& job);

/// The trained model of a finished stage (the student's is its best), on the device, in evaluation mode.
std::shared_ptr<MultimodalModel> load_trained(const Job& job, Role role, const StageArtifact& artifact);

/// Collective. Is the stage's artifact there and sound? Rank 0 looks, every rank gets the answer.
StageState stage_state(const Job& job, const StageInputs& inputs, const std::vector<StageArtifact>& parents);

/// Collective, one after the other: each gives the finished stage, reused or built.
StageArtifact teacher_stage(Job& job, const StageArtifact& pack);
StageArtifact cache_stage(Job& job, const StageArtifact& pack, const StageArtifact& teacher);
StageArtifact student_stage(Job& job, const StageArtifact& pack, const std::optional<StageArtifact>& teacher,
                            const std::optional<StageArtifact>& cache);
StageArtifact test_stage(Job& job, const StageArtifact& pack, const std::optional<StageArtifact>& teacher,
                         const std::optional<StageArtifact>& student);

/// Rank 0: the towers of the best student as Hugging Face folders, `<folder>/vision` and `<folder>/text`.
void export_towers(const Job& job, const StageArtifact& student, const std::filesystem::path& folder);

/// Rank 0: weights, metrics, results.json, … into logging.log_dir.
void write_artifacts(const Job& job, const std::optional<StageArtifact>& teacher,
                     const std::optional<StageArtifact>& student, const StageArtifact& test);

}  // namespace mmkd
