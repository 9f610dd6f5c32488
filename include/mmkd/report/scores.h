#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "mmkd/metrics/classification.h"

namespace mmkd {

/// One task's scores on one split.
struct TaskScores {
  std::string task;                  ///< slug of the task's label: what the keys of metrics use
  std::vector<std::string> classes;  ///< names, in class order
  ClassificationScores scores;
};

/// One model's scores on one split.
struct SplitScores {
  std::string split;  ///< "dev" or "test"
  std::vector<TaskScores> tasks;
  double infer_ms = 0;  ///< mean forward time per sample; a time, so no comparison of runs looks at it
  /// What the best epoch is chosen by: the mean of the tasks' macro F1.
  double mean_f1() const;
};

/// `<split>_<task>_{acc,f1,prec,rec,auc}` for every task and `<split>_infer_ms`; an undefined AUC is null.
nlohmann::ordered_json flat_metrics(const SplitScores& scores);

/// One epoch of a training stage.
struct EpochRecord {
  std::int64_t epoch = 0;    ///< from 1
  double learning_rate = 0;  ///< of the epoch's last step
  std::vector<std::pair<std::string, double>>
      losses;  ///< "train_loss" first, then its terms, each a mean over the epoch's samples
  SplitScores dev;
};
/// One flat row: epoch, learning_rate, losses, then the dev metrics.
nlohmann::ordered_json epoch_row(const EpochRecord& record);

/// A table of test and dev scores for people: one line per model and split.
std::string score_table(const std::vector<std::pair<std::string, SplitScores>>& rows);

/// `confusion_<split>_<task>.csv` for every task: header "true\predicted" and the class names.
void write_confusion_matrices(const std::filesystem::path& folder, const std::string& prefix,
                              const SplitScores& scores);

/// Everything of the scores, for stage artifacts (flat metrics, confusion matrices, per-class tables), and back.
nlohmann::ordered_json to_json(const SplitScores& scores);
SplitScores split_scores_from_json(const nlohmann::ordered_json& json);

}  // namespace mmkd
