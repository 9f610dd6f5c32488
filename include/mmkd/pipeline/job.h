#pragma once
#include <array>
#include <chrono>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "mmkd/config/load.h"
#include "mmkd/data/packed.h"
#include "mmkd/data/teacher_cache.h"
#include "mmkd/dist/world.h"
#include "mmkd/distill/objective.h"
#include "mmkd/eval/evaluate.h"
#include "mmkd/models/model_card.h"
#include "mmkd/pipeline/model_source.h"
#include "mmkd/pipeline/run.h"
#include "mmkd/plan/plan.h"
#include "mmkd/report/events.h"
#include "mmkd/report/results.h"
#include "mmkd/stages/stage.h"
#include "mmkd/train/batch.h"
#include "mmkd/train/trainer.h"

namespace mmkd {

/// Everything the stages share: made once, read by all of them.
struct Job {
  const LoadedConfig& loaded;
  const Config& config;
  const RunOptions& options;
  const World& world;
  PackedInfo packed;
  std::array<InputSpec, 2> inputs;    ///< [teacher, student]
  std::vector<ModelSource> teachers;  ///< empty: none takes part
  std::optional<ModelSource> student;
  JobPlan plan;
  StageStore store;
  std::vector<StageResults> stages;                      ///< filled as stages finish
  std::shared_ptr<EventLog> events;                      ///< on rank 0 while stages are built
  std::chrono::steady_clock::time_point building_since;  ///< the stage that is being built
};

/// What a model reads.
InputSpec input_of(const Job& job, const ModelSource& source);
/// Tokens of its training texts, the mean rounded down, at least 1; 0 for a model that reads none.
std::int64_t mean_tokens(const Job& job, const ModelSource& source);

inline constexpr const char* kTeacherCacheFile = "teacher_outputs.h5";
/// Of the cache of teacher number `teacher`.
TeacherCacheLayout cache_layout(const Job& job, std::size_t teacher);

// How a configuration trains and evaluates a model.
TrainerSpec trainer_spec(const Config& config, const ModelSource& source);

/// TrainerParts::make_graph: empty unless asked for, and, with a warning, where it can't be done.
std::function<std::unique_ptr<DeviceGraph>()> graph_factory(const Config& config, const World& world);
ObjectiveSpec objective_spec(const Job& job, const ModelSource& source);
EvaluationOptions evaluation_options(const Config& config, Role role);

/// What is stored with a trained model's weights.
ModelCard model_card(const Job& job, const ModelSource& source);

/// The trained model of a finished stage (the student's is its best), on the device, in evaluation mode.
std::shared_ptr<MultimodalModel> load_trained(const Job& job, const ModelSource& source, const StageArtifact& artifact);

/// The finished stages of a job, as far as they are there.
struct Finished {
  StageArtifact data_teacher, data_student;  ///< the packed data as each model sees it
  std::vector<StageArtifact> teachers, caches;
  std::optional<StageArtifact> joint, student;
};

/// Collective. external_digests() of rank 0.
std::map<std::string, std::string> weight_digests(const Config& config, const MpiSession& mpi);

/// Collective. Is the stage's artifact there and sound? Rank 0 looks, every rank gets the answer.
StageState stage_state(const Job& job, const StageInputs& inputs, const std::vector<StageArtifact>& parents);

// Collective: each builds one stage from those before it, which are finished.
StageArtifact teacher_stage(Job& job, std::size_t number, const Finished& finished);
StageArtifact cache_stage(Job& job, std::size_t number, const Finished& finished);
StageArtifact student_stage(Job& job, const Finished& finished);
StageArtifact joint_stage(Job& job, const Finished& finished);
StageArtifact test_stage(Job& job, const Finished& finished);

/// What the stages were made from, in the order of their inputs' parents, as far as `parents` names it.
std::vector<StageArtifact> parents_of(const StageInputs& inputs, const Finished& finished);

/// Collective. Rank 0 fills the stage's folder; every rank gets the artifact. Removes the stage's work folder.
StageArtifact commit(const Job& job, const StageInputs& inputs, const Finished& finished,
                     const std::function<void(const std::filesystem::path&)>& fill);

/// Rank 0: weights, metrics, results.json, … into logging.log_dir.
void write_artifacts(const Job& job, const Finished& finished, const StageArtifact& test);

}  // namespace mmkd
