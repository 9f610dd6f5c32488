#include "mmkd/config/teachers.h"

#include "mmkd/base/error.h"
#include "mmkd/config/load.h"
#include "mmkd/config/names.h"

namespace mmkd {
namespace {

namespace fs = std::filesystem;

TeacherSource teacher_of_run(const fs::path& run) {
  const fs::path file = run / "config.yaml";
  const fs::path weights = run / "teacher.safetensors";
  for (const auto& needed : {file, weights}) {
    if (!fs::exists(needed))
      throw UsageError("teacher.runs: {}: not found; the log folder of a finished run with a teacher is needed",
                       needed.string());
  }
  const auto loaded = load_config(file);
  TeacherSource source{.model = loaded.config.teacher,
                       .fusion = loaded.config.fusion,
                       .seed = loaded.config.training.seed,
                       .trained = false,
                       .weights = weights};
  if (!loaded.config.teacher.runs.empty()) source = teacher_sources(loaded.config).front();  // it took it from a run
  source.model.runs.clear();
  source.model.seeds.clear();
  source.trained = false;
  source.weights = weights;
  return source;
}

}  // namespace

std::vector<TeacherSource> teacher_sources(const Config& config) {
  std::vector<TeacherSource> sources;
  if (without_teacher(config)) return sources;
  for (const auto& run : config.teacher.runs) {
    sources.push_back(teacher_of_run(run));
    if (sources.back().model.modality != Modality::both && !config.training.teacher_only)
      throw UsageError("teacher.runs: {}: its teacher reads {} only; a student needs one of both modalities", run,
                       to_string(sources.back().model.modality));
  }
  if (!sources.empty()) return sources;
  auto seeds = config.teacher.seeds;
  if (seeds.empty()) seeds.push_back(config.training.seed);
  TeacherSource source{.model = config.teacher,
                       .fusion = config.fusion,
                       .seed = 0,
                       .trained = config.training.teacher_epochs > 0 || config.training.mode == TrainingMode::joint,
                       .weights = config.teacher.weights};
  source.model.seeds.clear();
  for (const auto seed : seeds) {
    source.seed = seed;
    sources.push_back(source);
  }
  return sources;
}

}  // namespace mmkd
