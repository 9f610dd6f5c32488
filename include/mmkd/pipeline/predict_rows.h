#pragma once
#include <cstdint>
#include <filesystem>
#include <string>

#include "mmkd/config/config.h"
#include "mmkd/data/prediction_rows.h"
#include "mmkd/models/model_card.h"

namespace mmkd {

struct PredictOptions {
  std::filesystem::path input;   ///< .csv or .jsonl
  std::filesystem::path output;  ///< JSON lines
  PredictionColumns columns;
  std::filesystem::path image_root;  ///< empty: the folder of `input`
  std::int64_t batch_size = 32;
  Precision precision = Precision::fp32;
  bool skip_bad_rows = false;  ///< false: the first one ends it, and there is no output
};

struct PredictSummary {
  std::int64_t predicted = 0, skipped = 0;
  double seconds = 0;
};

/// Classifies every row of a table and writes one line for each, in their order: {"id", "missing": ["text"] (where one
/// is), "predictions": {task: {"class", "probability", "probabilities": {class: p}}}}; of a skipped row {"id" or
/// "where", "error"}. A model of both modalities takes rows with one of them. The output appears whole, or not at all.
/// Throws Error for a row that cannot be used (its place and what is wrong), Interrupted after a stop signal.
PredictSummary predict_rows(const OpenedModel& model, at::Device device, const PredictOptions& options);

}  // namespace mmkd
