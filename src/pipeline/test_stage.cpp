#include "mmkd/base/files.h"
#include "mmkd/comm/agree.h"
#include "mmkd/eval/evaluate.h"
#include "mmkd/pipeline/job.h"

namespace mmkd {
namespace {

/// Collective. Dev and test scores of one trained model; on rank 0 they are complete.
nlohmann::ordered_json scores_of(const Job& job, Role role, const StageArtifact& artifact) {
  const auto model = load_trained(job, role, artifact);
  const bool teacher = role == Role::teacher;
  const EvaluationOptions options{.is_teacher = teacher,
                                  .batch_size = job.config.evaluation.batch_size,
                                  .num_workers = job.config.data.num_workers,
                                  .precision = job.config.training.precision};
  nlohmann::ordered_json json = nlohmann::ordered_json::object();
  for (const Split split : {Split::dev, Split::test}) {
    if (job.packed.counts[static_cast<std::size_t>(split)] == 0) continue;  // a table may have no test split
    const PackedSplit packed(job.packed, split, job.config.data.verify_on_read);
    const auto predictions = predict(job.world, *model, PackedSource(packed), job.inputs[teacher ? 0 : 1], options);
    if (job.world.rank() == 0)
      json[std::string(name(split))] = to_json(score(predictions, job.packed.tasks, std::string(name(split))));
  }
  return json;
}

}  // namespace

StageArtifact test_stage(Job& job, const StageArtifact& pack, const std::optional<StageArtifact>& teacher,
                         const std::optional<StageArtifact>& student) {
  const auto& inputs = job.plan.test;
  std::vector<StageArtifact> parents{pack};
  nlohmann::ordered_json scores = nlohmann::ordered_json::object();
  if (inputs.parents.contains("teacher")) {
    parents.push_back(*teacher);
    scores["teacher"] = scores_of(job, Role::teacher, *teacher);
  }
  if (student) {
    parents.push_back(*student);
    scores["student"] = scores_of(job, Role::student, *student);
  }
  on_rank_zero(job.world.mpi(), [&] {
    job.store.build(inputs, parents,
                    [&](const fs::path& folder) { write_file_atomic(folder / "scores.json", scores.dump(1) + "\n"); });
  });
  return job.store.open(inputs);
}

}  // namespace mmkd
