#pragma once
#include <string>
#include <utility>
#include <vector>

#include "mmkd/eval/evaluate.h"

namespace mmkd {

/// Collective. Scores of the models under every standard perturbation that can happen to them, with its name as
/// "split"; complete on rank 0, empty elsewhere. options.perturbation does not count.
std::vector<SplitScores> robustness_scores(const World& world, std::span<MultimodalModel* const> models,
                                           const SampleSource& source, const InputSpec& input,
                                           EvaluationOptions options, const std::vector<PackedTask>& tasks);

}  // namespace mmkd
