#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "mmkd/config/config.h"
#include "mmkd/data/packed.h"
#include "mmkd/dist/world.h"
#include "mmkd/eval/perturbation.h"
#include "mmkd/models/multimodal_model.h"
#include "mmkd/report/scores.h"
#include "mmkd/train/batch.h"

namespace mmkd {

struct EvaluationOptions {
  bool is_teacher = false;       ///< which input of the records the model reads
  std::int64_t batch_size = 64;  ///< samples per forward
  std::int64_t num_workers = 4;
  Precision precision = Precision::fp32;
  Perturbation perturbation;  ///< of the inputs
  std::uint64_t seed = 0;     ///< of the perturbation
};

/// What a model says about every sample of a split, in the split's order.
struct Predictions {
  struct Task {
    std::vector<std::int32_t> y_true;  ///< [N]
    std::vector<double> prob;          ///< [N, K] softmax of the logits
    std::int64_t classes = 0;
  };
  std::vector<Task> tasks;
  double infer_ms = 0;                ///< mean forward time per sample
  std::vector<double> route_shares;   ///< share of the samples that took each route; empty without routes
  std::optional<double> mean_energy;  ///< of a fusion that has one
};

/// Collective. The ranks share the forward passes (fixed blocks, so that the result depends on their number only by
/// rounding); the result is complete on rank 0 and empty elsewhere. The models are put into evaluation mode; several
/// answer together, by the mean of their logits. Throws CollectiveError with ExitCode::interrupted after a stop signal
/// on any rank.
Predictions predict(const World& world, std::span<MultimodalModel* const> models, const SampleSource& source,
                    const InputSpec& input, const EvaluationOptions& options);

/// Scores of predictions (rank 0): `tasks` gives the names.
SplitScores score(const Predictions& predictions, const std::vector<PackedTask>& tasks, const std::string& split);

}  // namespace mmkd
