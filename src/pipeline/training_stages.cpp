#include <unistd.h>

#include <cstdio>

#include "mmkd/base/error.h"
#include "mmkd/base/files.h"
#include "mmkd/base/log.h"
#include "mmkd/comm/agree.h"
#include "mmkd/data/teacher_cache.h"
#include "mmkd/eval/evaluate.h"
#include "mmkd/pipeline/cached_outputs.h"
#include "mmkd/pipeline/job.h"
#include "mmkd/report/metrics_files.h"
#include "mmkd/report/progress.h"
#include "mmkd/report/tensorboard.h"
#include "mmkd/train/trainer.h"
#include "mmkd/version.h"
#include "mmkd/weights/save.h"

namespace mmkd {
namespace {

/// What follows an epoch and a step on rank 0: log, metrics files, TensorBoard, the progress line.
class TrainingLog {
 public:
  TrainingLog(const Job& job, const std::string& stage, std::string metrics_stem)
      : folder_(job.config.logging.log_dir),
        stage_(stage),
        stem_(std::move(metrics_stem)),
        board_(folder_ / "tensorboard" / stage) {}

  void step(const StepReport& report) {
    if (!progress_) progress_.emplace(stderr, is_terminal(stderr), stage_, report.steps);
    progress_->update(report.step, report.samples,
                      fmt::format("epoch {}/{}  lr {:.2e}", report.epoch, report.epochs, report.learning_rate));
  }

  void epoch(const EpochRecord& record, const std::vector<nlohmann::ordered_json>& history) {
    std::string line = fmt::format("{}: epoch {}", stage_, record.epoch);
    for (const auto& [name, value] : record.losses) {
      line += fmt::format("  {} {:.4f}", name, value);
      board_.scalar(fmt::format("{}/{}", stage_, name), record.epoch, static_cast<float>(value));
    }
    for (const auto& task : record.dev.tasks)
      line += fmt::format("  dev_{}_f1 {:.3f}", task.task, task.scores.f1_macro);
    const auto metrics = flat_metrics(record.dev);
    for (const auto& [key, value] : metrics.items()) {
      if (value.is_number()) board_.scalar(fmt::format("{}/{}", stage_, key), record.epoch, value.get<float>());
    }
    board_.flush();
    write_metrics(folder_, stem_, history);
    log::info("{}", line);
  }

 private:
  fs::path folder_;
  std::string stage_, stem_;
  TensorBoardWriter board_;
  std::optional<Progress> progress_;
};

TrainerSpec trainer_spec(const Config& config, Role role) {
  const auto& training = config.training;
  const bool teacher = role == Role::teacher;
  return {.stage = std::string(name(role)),
          .is_teacher = teacher,
          .epochs = teacher ? training.teacher_epochs : training.student_epochs,
          .batch_size = config.data.batch_size,
          .micro_batch_size = training.micro_batch_size,
          .num_workers = config.data.num_workers,
          .seed = static_cast<std::uint64_t>(training.seed),
          .precision = training.precision,
          .peak_lr = teacher ? training.teacher_lr : training.student_lr,
          .warmup_fraction = training.warmup_fraction,
          .schedule = training.schedule,
          .optimizer = {.betas = training.betas,
                        .eps = training.eps,
                        .weight_decay = training.weight_decay,
                        .clip_norm = training.clip_norm}};
}

EvaluationOptions evaluation_options(const Config& config, Role role) {
  return {.is_teacher = role == Role::teacher,
          .batch_size = config.evaluation.batch_size,
          .num_workers = config.data.num_workers,
          .precision = config.training.precision};
}

/// Copies named parameters and buffers into the model.
void restore(MultimodalModel& model, const std::vector<NamedTensor>& weights) {
  const at::NoGradGuard no_grad;
  std::map<std::string, at::Tensor> target;
  for (const auto& item : model.named_parameters()) target.emplace(item.key(), item.value());
  for (const auto& item : model.named_buffers()) target.emplace(item.key(), item.value());
  for (const auto& item : weights) target.at(item.name).copy_(item.tensor);
}

ObjectiveSpec objective_spec(const Job& job, Role role) {
  ObjectiveSpec spec;
  if (role == Role::teacher) return spec;
  spec.type = job.config.loss.type;
  spec.constants = resolved_loss(job.config);
  if (job.teacher) {
    const auto widths = job.teacher->widths();
    spec.teacher_img_width = widths.vision;
    spec.teacher_txt_width = widths.text;
  }
  spec.student_width = job.student->spec.fusion.dim;
  return spec;
}

struct Trained {
  TrainOutcome outcome;
  std::shared_ptr<MultimodalModel> model;
};

/// Collective. Trains one model from its initial weights, or goes on from a checkpoint.
Trained train(Job& job, Role role, const StageInputs& inputs, const TeacherOutputSource* cached,
              MultimodalModel* live_teacher) {
  const auto& config = job.config;
  const auto& source = role == Role::teacher ? *job.teacher : *job.student;
  const auto spec = trainer_spec(config, role);
  Objective objective(objective_spec(job, role), spec.seed);
  std::shared_ptr<MultimodalModel> model;
  on_all_ranks(job.world.mpi(), [&] { model = initial_model(source, spec.seed, objective); });
  model->to(job.world.device());
  objective.to(job.world.device());

  const PackedSplit train_split(job.packed, Split::train, config.data.verify_on_read);
  const PackedSplit dev_split(job.packed, Split::dev, config.data.verify_on_read);
  const PackedSource train_source(train_split);
  const PackedSource dev_source(dev_split);

  const bool rank_zero = job.world.rank() == 0;
  const CheckpointStore checkpoints(job.store.work_folder(inputs), config.training.keep_checkpoints);
  TrainerParts parts{.world = job.world,
                     .model = *model,
                     .objective = objective,
                     .train = train_source,
                     .assembler = {},
                     .live_teacher = live_teacher,
                     .checkpoints = rank_zero ? &checkpoints : nullptr};
  parts.assembler.teacher_outputs = cached;
  if (role == Role::teacher || live_teacher != nullptr) parts.assembler.teacher = job.inputs[0];
  if (role == Role::student) parts.assembler.student = job.inputs[1];

  std::optional<TrainingLog> log;
  if (rank_zero) log.emplace(job, std::string(name(role)), role == Role::student ? "metrics" : "teacher_metrics");
  std::vector<nlohmann::ordered_json> rows;
  TrainerHooks hooks;
  hooks.evaluate_dev = [&] {
    const auto input = job.inputs[role == Role::teacher ? 0 : 1];
    const auto predictions = predict(job.world, *model, dev_source, input, evaluation_options(config, role));
    return rank_zero ? score(predictions, job.packed.tasks, "dev") : SplitScores{};
  };
  if (rank_zero) {
    hooks.on_step = [&](const StepReport& report) { log->step(report); };
    hooks.on_epoch = [&](const EpochRecord& record, const std::vector<nlohmann::ordered_json>& history) {
      log->epoch(record, history);
    };
  }
  Trainer trainer(parts, spec, std::move(hooks));
  if (job.options.resume) {
    trainer.resume();
  } else {
    on_rank_zero(job.world.mpi(), [&] { checkpoints.clear(); });
  }
  return {trainer.run(), model};
}

ModelDescription description(const Job& job) {
  ModelDescription description{.version = kVersion, .tasks = {}};
  for (const auto& task : job.packed.tasks) description.tasks.push_back({task.label, task.classes});
  return description;
}

void write_history(const fs::path& folder, const TrainOutcome& outcome) {
  write_metrics(folder, "history", outcome.history);
  const nlohmann::ordered_json summary{
      {"best_epoch", outcome.best_epoch}, {"best_score", outcome.best_score}, {"epochs", outcome.history.size()}};
  write_file_atomic(folder / "summary.json", summary.dump(1) + "\n");
}

/// Collective. Rank 0 fills the stage; every rank gets the artifact.
StageArtifact commit(const Job& job, const StageInputs& inputs, const std::vector<StageArtifact>& parents,
                     const std::function<void(const fs::path&)>& fill) {
  on_rank_zero(job.world.mpi(), [&] {
    job.store.build(inputs, parents, fill);
    std::error_code ignored;
    fs::remove_all(job.store.work_folder(inputs), ignored);
  });
  return job.store.open(inputs);
}

}  // namespace

StageArtifact teacher_stage(Job& job, const StageArtifact& pack) {
  const auto& inputs = *job.plan.teacher;
  auto trained = train(job, Role::teacher, inputs, nullptr, nullptr);
  return commit(job, inputs, {pack}, [&](const fs::path& folder) {
    const bool best = job.config.training.teacher_select == TeacherSelect::best && !trained.outcome.best.empty();
    if (best) restore(*trained.model, trained.outcome.best);
    const auto weights = trained.model->named_weights();
    save_model(folder, "teacher", weights, description(job));
    write_history(folder, trained.outcome);
  });
}

StageArtifact student_stage(Job& job, const StageArtifact& pack, const std::optional<StageArtifact>& teacher,
                            const std::optional<StageArtifact>& cache) {
  const auto& inputs = *job.plan.student;
  std::optional<CachedOutputs> cached;
  std::shared_ptr<MultimodalModel> live;
  std::vector<StageArtifact> parents{pack};
  if (cache) {
    cached.emplace(cache->folder / kTeacherCacheFile, cache_layout(job), PackedSplit(job.packed, Split::train, false));
    parents.push_back(*cache);
  } else if (inputs.parents.contains("teacher")) {
    live = load_trained(job, Role::teacher, *teacher);
    parents.push_back(*teacher);
  }
  auto trained = train(job, Role::student, inputs, cached ? &*cached : nullptr, live.get());
  return commit(job, inputs, parents, [&](const fs::path& folder) {
    const auto weights = trained.model->named_weights();  // views: they follow restore()
    save_model(folder, "student_final", weights, description(job));
    restore(*trained.model, trained.outcome.best);
    save_model(folder, "student_best", weights, description(job));
    write_history(folder, trained.outcome);
  });
}

}  // namespace mmkd
