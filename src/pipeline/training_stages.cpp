#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>

#include "mmkd/base/error.h"
#include "mmkd/base/files.h"
#include "mmkd/base/log.h"
#include "mmkd/comm/activity.h"
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
      : job_(job),
        folder_(job.config.logging.log_dir),
        stage_(stage),
        stem_(std::move(metrics_stem)),
        board_(folder_ / "tensorboard" / stage) {}

  void step(const StepReport& report) {
    if (!progress_) progress_.emplace(stderr, is_terminal(stderr), stage_, report.steps, job_.world.size());
    progress_->update(report.step, report.samples, [&] { return detail(report); });
    const auto now = std::chrono::steady_clock::now();
    constexpr auto kBetween = std::chrono::seconds(10);
    if (now - told_ < kBetween) return;
    told_ = now;
    activity().tell(
        fmt::format("{} epoch {}/{} step {}/{}", stage_, report.epoch, report.epochs, report.step, report.steps));
    nlohmann::ordered_json event{{"event", "step"},
                                 {"stage", stage_},
                                 {"epoch", report.epoch},
                                 {"step", report.step},
                                 {"steps", report.steps},
                                 {"samples_per_second", static_cast<double>(report.samples) / report.seconds},
                                 {"learning_rate", report.learning_rate},
                                 {"waiting_for_data", report.waiting_for_data / report.seconds},
                                 {"in_collectives", report.in_collectives / report.seconds}};
    for (const auto& [name, value] : report.losses()) event[name] = value;
    tell(event);
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
    nlohmann::ordered_json event{{"event", "epoch"}, {"stage", stage_}};
    event.update(epoch_row(record));
    if (!record.dev.tasks.empty()) event["dev_mean_f1"] = record.dev.mean_f1();
    tell(event);
  }

 private:
  /// Epoch, rate, where the time goes, and the terms of the loss.
  static std::string detail(const StepReport& report) {
    const auto percent = [&](double seconds) { return 100 * seconds / std::max(report.seconds, 1e-9); };
    std::string text =
        fmt::format("epoch {}/{}  lr {:.2e}  data {:.0f} %  comm {:.0f} %", report.epoch, report.epochs,
                    report.learning_rate, percent(report.waiting_for_data), percent(report.in_collectives));
    for (const auto& [name, value] : report.losses()) text += fmt::format("  {} {:.3f}", name, value);
    return text;
  }

  void tell(const nlohmann::ordered_json& event) const {
    if (job_.events) job_.events->write(event);
  }

  const Job& job_;
  fs::path folder_;
  std::string stage_, stem_;
  TensorBoardWriter board_;
  std::optional<Progress> progress_;
  std::chrono::steady_clock::time_point told_{};
};

/// Copies named parameters and buffers into the model.
void restore(MultimodalModel& model, const std::vector<NamedTensor>& weights) {
  const at::NoGradGuard no_grad;
  std::map<std::string, at::Tensor> target;
  for (const auto& item : model.named_parameters()) target.emplace(item.key(), item.value());
  for (const auto& item : model.named_buffers()) target.emplace(item.key(), item.value());
  for (const auto& item : weights) target.at(item.name).copy_(item.tensor);
}

/// What one training is made of.
struct Recipe {
  const ModelSource& source;
  const StageInputs& inputs;
  const TeacherOutputSource* cached = nullptr;
  std::vector<MultimodalModel*> live = {};
  const ModelSource* joint_teacher = nullptr;
};

struct Trained {
  TrainOutcome outcome;
  std::shared_ptr<MultimodalModel> model, joint_teacher;
  std::shared_ptr<Objective> objective;
};

/// Collective. A model with its first weights, on the device.
std::shared_ptr<MultimodalModel> started(const Job& job, const ModelSource& source, Objective& objective) {
  std::shared_ptr<MultimodalModel> model;
  on_all_ranks(job.world.mpi(), [&] { model = initial_model(source, source.seed, objective); });
  model->to(job.world.device());
  objective.to(job.world.device());
  return model;
}

/// Rank 0: is there room for what the training writes? Hours of work shall not end at a full disk.
void require_room(const Job& job, const StageInputs& inputs, std::int64_t values) {
  const auto root = artifacts_root(job.config);
  const auto bytes = static_cast<std::uint64_t>(values) * sizeof(float);
  const std::uint64_t checkpoint = 4 * bytes;  // weights, two moments, the best epoch's weights
  const std::uint64_t outputs = 4 * bytes;     // last and best, each as .safetensors and .pth
  const auto all = static_cast<std::uint64_t>(job.config.training.keep_checkpoints + 1) * checkpoint + outputs;
  const auto free = free_bytes(root);
  const auto megabytes = [](std::uint64_t n) { return static_cast<double>(n) / 1e6; };
  if (free < checkpoint + outputs) {
    throw Error(
        "{}: {:.0f} MB are free, but the {} needs {:.0f} MB for one checkpoint and {:.0f} MB for its results; make "
        "room "
        "or set artifacts.root to another disk",
        root.string(), megabytes(free), inputs.stage, megabytes(checkpoint), megabytes(outputs));
  }
  if (free < all) {
    log::warn("{}: {:.0f} MB are free, and the {} will need up to {:.0f} MB (training.keep_checkpoints: {})",
              root.string(), megabytes(free), inputs.stage, megabytes(all), job.config.training.keep_checkpoints);
  }
}

/// Collective. Trains one model from its initial weights, or goes on from a checkpoint.
Trained train(Job& job, const Recipe& recipe) {
  const auto& config = job.config;
  const auto& source = recipe.source;
  const bool is_teacher = source.role == Role::teacher;
  const auto spec = trainer_spec(config, source);
  Trained result;
  result.objective = std::make_shared<Objective>(objective_spec(job, source), spec.seed);
  result.model = started(job, source, *result.objective);
  std::optional<Objective> joint_objective;
  if (recipe.joint_teacher != nullptr) {
    joint_objective.emplace(objective_spec(job, *recipe.joint_teacher), spec.seed);
    result.joint_teacher = started(job, *recipe.joint_teacher, *joint_objective);
  }

  on_rank_zero(job.world.mpi(), [&] {
    auto values = result.model->parameter_counts().total();
    if (result.joint_teacher) values += result.joint_teacher->parameter_counts().total();
    require_room(job, recipe.inputs, values);
  });
  const PackedSplit train_split(job.packed, Split::train, config.data.verify_on_read);
  const PackedSplit dev_split(job.packed, Split::dev, config.data.verify_on_read);
  const PackedSource train_source(train_split);
  const PackedSource dev_source(dev_split);

  const bool rank_zero = job.world.rank() == 0;
  const CheckpointStore checkpoints(job.store.work_folder(recipe.inputs), config.training.keep_checkpoints);
  TrainerParts parts{.world = job.world,
                     .model = *result.model,
                     .objective = *result.objective,
                     .train = train_source,
                     .assembler = {},
                     .live_teachers = recipe.live,
                     .joint_teacher = result.joint_teacher.get(),
                     .joint_objective = joint_objective ? &*joint_objective : nullptr,
                     .checkpoints = rank_zero ? &checkpoints : nullptr};
  parts.make_graph = graph_factory(config, job.world);
  parts.assembler.teacher_outputs = recipe.cached;
  parts.assembler.augment = config.augment;
  parts.assembler.seed = static_cast<std::uint64_t>(config.training.seed);
  const bool reads_teacher_input = is_teacher || !recipe.live.empty() || recipe.joint_teacher != nullptr;
  if (reads_teacher_input) parts.assembler.teacher = input_of(job, is_teacher ? source : job.teachers.at(0));
  if (!is_teacher) parts.assembler.student = input_of(job, source);

  std::optional<TrainingLog> log;
  if (rank_zero)
    log.emplace(job, numbered(name(source.role), source.number),
                is_teacher ? numbered("teacher", source.number) + "_metrics" : "metrics");
  TrainerHooks hooks;
  hooks.evaluate_dev = [&] {
    MultimodalModel* const models[] = {result.model.get()};
    const auto predictions =
        predict(job.world, models, dev_source, input_of(job, source), evaluation_options(config, source.role));
    return rank_zero ? score(predictions, job.packed.tasks, "dev") : SplitScores{};
  };
  if (rank_zero) {
    hooks.on_step = [&](const StepReport& report) { log->step(report); };
    hooks.on_epoch = [&](const EpochRecord& record, const std::vector<nlohmann::ordered_json>& history) {
      log->epoch(record, history);
    };
  }
  Trainer trainer(parts, spec, std::move(hooks));
  if (job.options.resume != Resume::never) {
    trainer.resume();
  } else {
    on_rank_zero(job.world.mpi(), [&] { checkpoints.clear(); });
  }
  result.outcome = trainer.run();
  return result;
}

ModelDescription description(const Job& job, const ModelSource& source) {
  ModelDescription description{.version = kVersion, .tasks = {}, .model = {}};
  for (const auto& task : job.packed.tasks) description.tasks.push_back({task.label, task.classes});
  description.model = to_json_text(model_card(job, source));
  return description;
}

void write_history(const fs::path& folder, const TrainOutcome& outcome) {
  write_metrics(folder, "history", outcome.history);
  const nlohmann::ordered_json summary{
      {"best_epoch", outcome.best_epoch}, {"best_score", outcome.best_score}, {"epochs", outcome.history.size()}};
  write_file_atomic(folder / "summary.json", summary.dump(1) + "\n");
}

/// The best student, the last one, and the projections that were trained with it.
void write_student(const Job& job, const Trained& trained, const fs::path& folder) {
  const auto weights = trained.model->named_weights();  // views: they follow restore()
  const auto described = description(job, *job.student);
  save_model(folder, "student_final", weights, described);
  restore(*trained.model, trained.outcome.best);
  save_model(folder, "student_best", weights, described);
  std::vector<NamedTensor> projections;
  for (const auto& entry : trained.objective->named_weights())
    projections.push_back({"distill." + entry.name, entry.view});
  if (!projections.empty()) save_tensors(folder / "student_projections.safetensors", projections);
  write_history(folder, trained.outcome);
}

}  // namespace

TrainerSpec trainer_spec(const Config& config, const ModelSource& source) {
  const auto& training = config.training;
  const bool teacher = source.role == Role::teacher;
  return {.stage = numbered(name(source.role), source.number),
          .is_teacher = teacher,
          .epochs = !source.trained ? 0
                    : teacher       ? training.teacher_epochs
                                    : training.student_epochs,
          .batch_size = config.data.batch_size,
          .micro_batch_size = training.micro_batch_size,
          .gradient_checkpointing = training.gradient_checkpointing,
          .num_workers = config.data.num_workers,
          .seed = source.seed,
          .precision = training.precision,
          .gradient_exchange = training.gradient_exchange,
          .host_sharing = training.host_sharing,
          .peak_lr = teacher ? training.teacher_lr : training.student_lr,
          .warmup_fraction = training.warmup_fraction,
          .schedule = training.schedule,
          .optimizer = {.betas = training.betas,
                        .eps = training.eps,
                        .weight_decay = training.weight_decay,
                        .clip_norm = training.clip_norm},
          .views = config.augment.views,
          .joint_teacher_lr = training.teacher_lr,
          .checkpoint_every = std::chrono::duration<double>(training.checkpoint_minutes * 60),
          .max_bad_steps = training.max_bad_steps,
          .spike_factor = training.spike_factor};
}

std::function<std::unique_ptr<DeviceGraph>()> graph_factory(const Config& config, const World& world) {
  if (!config.training.cuda_graphs) return {};
  const char* const obstacle = !world.device().is_cuda() ? "device is not a GPU"
                               : world.size() > 1        ? "gradients of several ranks are averaged within a step"
                                                         : nullptr;
  if (obstacle == nullptr) return make_cuda_graph;
  if (world.rank() == 0) log::warn("training.cuda_graphs: steps are not recorded: {}", obstacle);
  return {};
}

EvaluationOptions evaluation_options(const Config& config, Role role) {
  return {.is_teacher = role == Role::teacher,
          .batch_size = config.evaluation.batch_size,
          .num_workers = config.data.num_workers,
          .precision = config.training.precision,
          .perturbation = {},
          .seed = static_cast<std::uint64_t>(config.training.seed)};
}

ObjectiveSpec objective_spec(const Job& job, const ModelSource& source) {
  ObjectiveSpec spec;
  spec.modality = source.spec.modality;
  spec.energy = source.spec.modality == Modality::both && source.spec.fusion.type == FusionType::energy_aware_adaptive;
  if (source.role == Role::teacher) return spec;
  spec.terms = resolved_loss(job.config);
  spec.projection = job.config.loss.projection;
  if (!job.teachers.empty()) {
    const auto widths = job.teachers.front().widths();
    spec.teacher_img_width = widths.vision;
    spec.teacher_txt_width = widths.text;
  }
  spec.student_width = source.spec.fusion.dim;
  return spec;
}

std::vector<StageArtifact> parents_of(const StageInputs& inputs, const Finished& finished) {
  std::map<std::string, const StageArtifact*> by_key;
  const auto add = [&](const StageArtifact& artifact) { by_key[artifact.key] = &artifact; };
  add(finished.data_teacher);
  add(finished.data_student);
  for (const auto& artifact : finished.teachers) add(artifact);
  for (const auto& artifact : finished.caches) add(artifact);
  if (finished.joint) add(*finished.joint);
  if (finished.student) add(*finished.student);
  std::vector<StageArtifact> parents;
  for (const auto& [parent, key] : inputs.parents) {
    const auto found = by_key.find(key);
    if (found == by_key.end()) throw Error("stage {}: its parent {} is not finished", inputs.stage, parent);
    parents.push_back(*found->second);
  }
  return parents;
}

StageArtifact commit(const Job& job, const StageInputs& inputs, const Finished& finished,
                     const std::function<void(const fs::path&)>& fill) {
  on_rank_zero(job.world.mpi(), [&] {
    const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - job.building_since;
    job.store.build(inputs, parents_of(inputs, finished), fill, spent.count());
    std::error_code ignored;
    fs::remove_all(job.store.work_folder(inputs), ignored);
  });
  return job.store.open(inputs);
}

StageArtifact teacher_stage(Job& job, std::size_t number, const Finished& finished) {
  const auto& inputs = job.plan.teachers.at(number);
  const auto trained = train(job, {.source = job.teachers.at(number), .inputs = inputs});
  return commit(job, inputs, finished, [&](const fs::path& folder) {
    const bool best = job.config.training.teacher_select == TeacherSelect::best && !trained.outcome.best.empty();
    if (best) restore(*trained.model, trained.outcome.best);
    const auto weights = trained.model->named_weights();
    save_model(folder, "teacher", weights, description(job, job.teachers.at(number)));
    write_history(folder, trained.outcome);
  });
}

StageArtifact student_stage(Job& job, const Finished& finished) {
  const auto& inputs = *job.plan.student;
  std::optional<CachedOutputs> cached;
  std::vector<std::shared_ptr<MultimodalModel>> live;
  Recipe recipe{.source = *job.student, .inputs = inputs};
  if (inputs.parents.contains("cache")) {
    std::vector<CacheFile> files;
    for (std::size_t i = 0; i < finished.caches.size(); ++i)
      files.push_back({finished.caches[i].folder / kTeacherCacheFile, cache_layout(job, i)});
    on_all_ranks(job.world.mpi(), [&] { cached.emplace(files, PackedSplit(job.packed, Split::train, false)); });
    recipe.cached = &*cached;
  } else if (inputs.parents.contains("teacher")) {
    for (std::size_t i = 0; i < finished.teachers.size(); ++i) {
      live.push_back(load_trained(job, job.teachers.at(i), finished.teachers[i]));
      recipe.live.push_back(live.back().get());
    }
  }
  const auto trained = train(job, recipe);
  return commit(job, inputs, finished, [&](const fs::path& folder) { write_student(job, trained, folder); });
}

StageArtifact joint_stage(Job& job, const Finished& finished) {
  const auto& inputs = *job.plan.joint;
  const auto trained = train(job, {.source = *job.student, .inputs = inputs, .joint_teacher = &job.teachers.at(0)});
  return commit(job, inputs, finished, [&](const fs::path& folder) {
    const auto weights = trained.joint_teacher->named_weights();
    save_model(folder, "teacher", weights, description(job, job.teachers.at(0)));
    write_student(job, trained, folder);
  });
}

}  // namespace mmkd
