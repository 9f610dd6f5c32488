#pragma once
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "mmkd/report/scores.h"

namespace mmkd {

/// A model as results.json describes it.
struct ModelResults {
  std::string vision, text;  ///< names of the towers, or family and size
  std::int64_t fusion_layers = 0;
  std::int64_t vision_params = 0, text_params = 0, total_params = 0;
};

/// One finished stage of the job.
struct StageResults {
  std::string stage, key;
  bool reused = false;
  double seconds = 0;        ///< in this run
  double built_seconds = 0;  ///< that building it took, in this run or another; 0: not known
};

/// What a run leaves in results.json (docs/formats/results.md).
struct RunResults {
  std::string timestamp;                        ///< ISO 8601, UTC
  nlohmann::json config;                        ///< resolved
  std::vector<nlohmann::ordered_json> history;  ///< of the student, or of the teacher with teacher_only
  std::vector<nlohmann::ordered_json> teacher_history;
  std::map<std::string, SplitScores> student, teacher;  ///< by split
  std::optional<ModelResults> student_model, teacher_model;
  nlohmann::ordered_json training, data, fusion, loss, studies;
  nlohmann::ordered_json latency;  ///< of single samples, by model; null: not measured
  std::int64_t best_epoch = 0;
  std::uint64_t seed = 0;
  int world = 1, threads = 1;
  std::string device, versions_torch, versions_mmkd;
  std::vector<StageResults> stages;
};

nlohmann::ordered_json to_json(const RunResults& results);
void write_results(const std::filesystem::path& file, const RunResults& results);
/// stage, key, reused, seconds
void write_timings(const std::filesystem::path& file, const std::vector<StageResults>& stages);

/// Mean, sample standard deviation and values of every metric of several results.json that differ in their seed:
/// {"seeds", "student": {"<split>_<task>_f1": {"mean", "std", "values"}, …}, "teacher": …}. Times are left out.
nlohmann::ordered_json summarize_seeds(const std::vector<nlohmann::ordered_json>& results);

}  // namespace mmkd
