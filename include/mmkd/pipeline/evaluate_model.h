#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "mmkd/data/packed.h"
#include "mmkd/dist/world.h"
#include "mmkd/eval/evaluate.h"
#include "mmkd/models/model_card.h"

namespace mmkd {

/// Collective. Scores of a trained model on one split of packed data, then (robustness) under every standard
/// perturbation, named by it. Complete on rank 0. Throws UsageError where model and data do not belong together or the
/// split is empty.
std::vector<SplitScores> evaluate_model(const World& world, const OpenedModel& model, const PackedInfo& packed,
                                        Split split, bool robustness, EvaluationOptions options);

}  // namespace mmkd
