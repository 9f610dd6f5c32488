#include "mmkd/pipeline/evaluate_model.h"

#include "mmkd/base/error.h"
#include "mmkd/comm/agree.h"
#include "mmkd/eval/robustness.h"
#include "mmkd/pipeline/trained_file.h"

namespace mmkd {

std::vector<SplitScores> evaluate_model(const World& world, const OpenedModel& model, const PackedInfo& packed,
                                        Split split, bool robustness, EvaluationOptions options) {
  InputSpec input;
  on_all_ranks(world.mpi(), [&] {
    input = input_of(model.card, packed);
    if (packed.counts[static_cast<std::size_t>(split)] == 0)
      throw UsageError("{}: the {} split is empty", packed.folder.string(), name(split));
  });
  const PackedSplit records(packed, split, true);
  const PackedSource source(records);
  model.model->to(world.device());
  MultimodalModel* const models[] = {model.model.get()};
  const auto predictions = predict(world, models, source, input, options);
  std::vector<SplitScores> scores;
  if (world.rank() == 0) scores.push_back(score(predictions, packed.tasks, std::string(name(split))));
  if (!robustness) return scores;
  for (auto& perturbed : robustness_scores(world, models, source, input, options, packed.tasks))
    scores.push_back(std::move(perturbed));
  return scores;
}

}  // namespace mmkd
