#include "mmkd/eval/robustness.h"

namespace mmkd {

std::vector<SplitScores> robustness_scores(const World& world, std::span<MultimodalModel* const> models,
                                           const SampleSource& source, const InputSpec& input,
                                           EvaluationOptions options, const std::vector<PackedTask>& tasks) {
  std::vector<SplitScores> all;
  for (const auto& perturbation : standard_perturbations()) {
    if (!perturbation.concerns(input.modality)) continue;
    options.perturbation = perturbation;
    const auto predictions = predict(world, models, source, input, options);
    if (world.rank() == 0) all.push_back(score(predictions, tasks, perturbation.name()));
  }
  return all;
}

}  // namespace mmkd
