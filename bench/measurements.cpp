#include "bench/measurements.h"

#include <ATen/Parallel.h>

#include <array>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <numeric>

#include "bench/sources.h"
#include "mmkd/base/error.h"
#include "mmkd/base/files.h"
#include "mmkd/comm/agree.h"
#include "mmkd/eval/evaluate.h"
#include "mmkd/eval/model_size.h"
#include "mmkd/pipeline/device.h"
#include "mmkd/train/loader.h"
#include "mmkd/train/optimizer.h"
#include "mmkd/train/precision.h"
#include "mmkd/version.h"
#include "mmkd/weights/save.h"

namespace mmkd::bench {
namespace {

using Clock = std::chrono::steady_clock;

/// Leaves a training that would go on; every rank throws it after the same step, so no collective is left open.
struct Enough {};

/// One model in training with the pieces that it needs.
class Training {
 public:
  Training(Setup& setup, Role role)
      : setup_(setup),
        role_(role),
        objective_(objective_spec(setup.job(), setup.source(role)), static_cast<std::uint64_t>(seed())) {
    on_all_ranks(setup.mpi(),
                 [&] { model_ = initial_model(setup.source(role), static_cast<std::uint64_t>(seed()), objective_); });
    model_->to(setup.world().device());
    objective_.to(setup.world().device());
  }

  /// Collective. Steps until `after_step`, which gets the samples so far, says that it is enough. The share of the
  /// time, from the third step on, in which this rank waited for its next batch.
  double run(const SampleSource& source, const TeacherOutputSource* outputs, MultimodalModel* live_teacher,
             const std::function<bool(std::int64_t)>& after_step) {
    TrainerParts parts{
        .world = setup_.world(), .model = *model_, .objective = objective_, .train = source, .assembler = {}};
    if (live_teacher != nullptr) parts.live_teachers = {live_teacher};
    parts.make_graph = graph_factory(setup_.job().config, setup_.world());
    parts.assembler.teacher_outputs = outputs;
    if (role_ == Role::teacher || live_teacher != nullptr) parts.assembler.teacher = input(Role::teacher);
    if (role_ == Role::student) parts.assembler.student = input(Role::student);
    TrainerHooks hooks;
    double seconds = 0, waited = 0, seconds_before = 0, waited_before = 0;
    hooks.on_step = [&](const StepReport& report) {
      constexpr std::int64_t kWarmUp = 3;
      seconds = report.seconds;
      waited = report.waiting_for_data;
      if (report.step == kWarmUp) {
        seconds_before = seconds;
        waited_before = waited;
      }
      if (after_step(report.samples)) throw Enough{};
    };
    try {
      Trainer(parts, setup_.one_epoch(role_), std::move(hooks)).run();
    } catch (const Enough&) {
      return (waited - waited_before) / (seconds - seconds_before);
    }
    throw Error("the training ended before the measurement");
  }

  MultimodalModel& model() { return *model_; }
  const Objective& objective() const { return objective_; }

 private:
  std::int64_t seed() const { return setup_.options().seed; }
  InputSpec input(Role role) const { return input_of(setup_.job(), setup_.source(role)); }

  Setup& setup_;
  Role role_;
  Objective objective_;
  std::shared_ptr<MultimodalModel> model_;
};

std::shared_ptr<MultimodalModel> teacher_in_evaluation(Setup& setup) {
  Training training(setup, Role::teacher);
  auto model = std::static_pointer_cast<MultimodalModel>(training.model().shared_from_this());
  model->eval();
  return model;
}

enum class Outputs { none, cached, live };

/// What a step needs to compute for a sample: a training step is taken to be three forward passes (one forward, two for
/// the gradients of inputs and weights), a live teacher is one more of its own.
Json flops_of_step(Setup& setup, Role role, MultimodalModel& model, MultimodalModel* live, bool synthetic) {
  const auto& job = setup.job();
  const auto count = [&](MultimodalModel& counted, Role its_role, std::int64_t tokens) {
    return flops_per_sample(counted, input_of(job, setup.source(its_role)), tokens);
  };
  const auto tokens = synthetic ? setup.options().tokens : mean_tokens(job, setup.source(role));
  const auto forward = count(model, role, tokens);
  const auto of_teacher = live != nullptr ? count(*live, Role::teacher, tokens) : 0;
  return {{"flops_per_sample", forward}, {"step_flops_per_sample", 3 * forward + of_teacher}, {"flops_tokens", tokens}};
}

Json steps(Setup& setup, Role role, Outputs outputs, bool synthetic) {
  const auto& options = setup.options();
  const auto& job = setup.job();
  const PackedSplit split(job.packed, Split::train, job.config.data.verify_on_read);
  const PackedSource packed(split);
  std::optional<SyntheticSource> in_memory;
  if (synthetic) in_memory.emplace(job.packed, options.batch, options.tokens);
  const SampleSource& data = synthetic ? static_cast<const SampleSource&>(*in_memory) : packed;
  const RepeatedSource source(data, StepWindows::max_steps(options.repeats) * options.batch);

  std::unique_ptr<TeacherOutputSource> made_up;
  std::shared_ptr<MultimodalModel> live;
  if (outputs == Outputs::cached) {
    const auto layout = cache_layout(job, 0);
    if (synthetic) {
      made_up = std::make_unique<MadeUpOutputs>(layout, data.size());
    } else {
      const auto file = setup.scratch() / kTeacherCacheFile;
      on_rank_zero(setup.mpi(), [&] { write_made_up_cache(file, layout, data); });
      made_up = std::make_unique<CachedOutputs>(std::vector<CacheFile>{{file, layout}}, split);
    }
  } else if (outputs == Outputs::live) {
    live = teacher_in_evaluation(setup);
  }
  std::optional<RepeatedOutputs> repeated;
  if (made_up) repeated.emplace(*made_up, data.size());

  StepWindows windows(setup.world(), options.repeats);
  Training training(setup, role);
  const double waited = training.run(source, repeated ? &*repeated : nullptr, live.get(),
                                     [&](std::int64_t samples) { return windows.after_step(samples); });
  Json json = windows.json();
  json["data_wait"] = std::round(1e5 * sum_over_ranks(setup.mpi(), waited) / setup.mpi().size()) / 1e5;
  json.update(flops_of_step(setup, role, training.model(), live.get(), synthetic));  // last, since it takes memory
  if (synthetic) json["seq"] = options.tokens;
  return json;
}

/// The product's cache stage. `spread` > 1: only every so-many-th block is left to compute, as after an interruption,
/// since a whole pass takes minutes.
Json cache_build(Setup& setup, std::int64_t spread) {
  constexpr std::int64_t kBlockRows = 64;  // that of the stage: a journal with other blocks would be thrown away
  auto& job = setup.job();
  const auto& mpi = setup.mpi();
  Finished finished;
  finished.data_teacher = {job.packed.folder, job.plan.data[0].key(), job.packed.input_contents[0]};
  {
    const auto teacher = teacher_in_evaluation(setup);  // collective
    on_rank_zero(mpi, [&] {
      job.store.build(job.plan.teachers.front(), {finished.data_teacher}, [&](const fs::path& folder) {
        const auto weights = teacher->named_weights();
        save_model(folder, "teacher", weights, {.version = kVersion, .tasks = {}, .model = {}});
      });
    });
  }
  finished.teachers.push_back(job.store.open(job.plan.teachers.front()));
  const PackedSplit split(job.packed, Split::train, false);
  const PackedSource source(split);
  const auto layout = cache_layout(job, 0);
  std::int64_t samples = 0;
  const auto prepare = [&] {
    samples = 0;
    for (std::int64_t row = 0; row < layout.rows; ++row) samples += (row / kBlockRows) % spread == 0 ? 1 : 0;
    on_rank_zero(mpi, [&] {
      fs::remove_all(job.store.folder(job.plan.caches.front()));
      TeacherCacheJournal journal(job.store.work_folder(job.plan.caches.front()) / "blocks.journal", layout,
                                  kBlockRows);
      for (std::int64_t block = 0; block < journal.blocks(); ++block) {
        if (block % spread != 0) add_made_up_block(journal, block, kBlockRows, layout, source);
      }
    });
  };
  Json json = time_passes(setup.world(), setup.options().repeats, prepare, [&] {
    cache_stage(job, 0, finished);
    return samples;
  });
  json["samples"] = samples;
  return json;
}

Json evaluation(Setup& setup) {
  auto& job = setup.job();
  Training training(setup, Role::student);
  const PackedSplit split(job.packed, Split::dev, job.config.data.verify_on_read);
  const PackedSource source(split);
  return time_passes(
      setup.world(), setup.options().repeats, [] {},
      [&] {
        MultimodalModel* const models[] = {&training.model()};
        const auto predictions = predict(setup.world(), models, source, input_of(job, setup.source(Role::student)),
                                         evaluation_options(job.config, Role::student));
        if (setup.world().rank() == 0) (void)score(predictions, job.packed.tasks, "dev");
        return source.size();
      });
}

Json loading(Setup& setup) {
  const auto& job = setup.job();
  const PackedSplit split(job.packed, Split::train, job.config.data.verify_on_read);
  const PackedSource source(split);
  AssemblerOptions assembler;
  assembler.student = input_of(job, setup.source(Role::student));
  const Sampler sampler(source.size(), setup.options().batch, setup.world().size(), setup.world().rank());
  std::int64_t epoch = 0;
  return time_passes(
      setup.world(), setup.options().repeats, [] {},
      [&] {
        BatchLoader loader(BatchAssembler(source, assembler),
                           epoch_plans(sampler, {.world = setup.world().size(),
                                                 .seed = static_cast<std::uint64_t>(setup.options().seed),
                                                 .epoch = epoch++}),
                           {.num_workers = setup.options().workers});
        while (loader.next()) {
        }
        return source.size();
      });
}

/// From the start of the process, or of the launcher where the driver tells it, to the end of the first teacher step.
Json startup(Setup& setup) {
  const auto& job = setup.job();
  const PackedSplit split(job.packed, Split::train, job.config.data.verify_on_read);
  const PackedSource source(split);
  double end = 0;
  Training(setup, Role::teacher).run(source, nullptr, nullptr, [&](std::int64_t) {
    end = wall_seconds();
    return true;
  });
  const char* launched = std::getenv("MMKD_BENCH_T0");
  const double start = launched != nullptr ? std::strtod(launched, nullptr) : process_start();
  Json json{{"unit", "s"}};
  json.update(spread({end - start}));
  json["rss_mb"] = std::round(sum_over_ranks(setup.mpi(), peak_rss_mb()));
  return json;
}

Json all_reduce(const World& world) {
  constexpr std::array<std::int64_t, 3> kMegabytes{1, 26, 67};
  constexpr int kWarmUp = 3;
  Json sizes = Json::object();
  for (const auto megabytes : kMegabytes) {
    at::Tensor values = at::zeros({megabytes * 250'000}, at::TensorOptions(at::kFloat).device(world.device()));
    std::vector<double> milliseconds;
    for (int i = 0; i < kWarmUp + (megabytes == 1 ? 60 : 12); ++i) {
      wait_for(world.device());
      world.mpi().barrier();
      const auto start = Clock::now();
      world.all_reduce_sum(values);
      wait_for(world.device());
      const double elapsed = std::chrono::duration<double, std::milli>(Clock::now() - start).count();
      if (i >= kWarmUp) milliseconds.push_back(elapsed);
    }
    const Json ms = spread(milliseconds);
    sizes[fmt::format("{}MB", megabytes)] = {
        {"ms", ms}, {"GB_per_s", static_cast<double>(megabytes) / ms.at("median").get<double>()}};
  }
  return {{"unit", "ms"}, {"sizes", sizes}};
}

/// The student's training from a live teacher over the samples in the order of the data set, without dropout, at a
/// constant rate: losses that have to agree with another implementation of the same job (bench/losses.py).
Json losses(Setup& setup) {
  constexpr std::int64_t kSteps = 20;
  if (setup.world().size() > 1 || !setup.world().device().is_cpu())
    throw UsageError("--what losses runs on one rank, on the CPU");
  const auto& job = setup.job();
  const auto& config = job.config.training;
  const std::int64_t batch_size = setup.options().batch;
  const PackedSplit split(job.packed, Split::train, true);
  const PackedSource source(split);
  AssemblerOptions options;
  options.teacher = input_of(job, setup.source(Role::teacher));
  options.student = input_of(job, setup.source(Role::student));
  const BatchAssembler assembler(source, options);

  const auto teacher = teacher_in_evaluation(setup);
  const Objective supervised(objective_spec(job, setup.source(Role::teacher)), 0);
  Training student(setup, Role::student);
  student.model().eval();
  std::vector<NamedTensor> parameters;
  for (const torch::nn::Module* module : {static_cast<const torch::nn::Module*>(&student.model()),
                                          static_cast<const torch::nn::Module*>(&student.objective())}) {
    for (const auto& item : module->named_parameters())
      parameters.push_back({fmt::format("{}.{}", parameters.size(), item.key()), item.value()});
  }
  AdamW optimizer(parameters, {.betas = config.betas, .eps = config.eps, .weight_decay = config.weight_decay});
  Json first;
  std::vector<double> totals;
  for (std::int64_t step = 0; step < kSteps; ++step) {
    BatchPlan plan{.rows = std::vector<std::int64_t>(static_cast<std::size_t>(batch_size)),
                   .shares = {.global_count = batch_size, .world = 1}};
    std::iota(plan.rows.begin(), plan.rows.end(), step * batch_size);
    const Batch batch = assembler.assemble(plan);
    TeacherOutputs outputs;
    ModelOutput said;
    {
      const AutocastGuard autocast(at::kCPU, config.precision);
      said = student.model().forward(batch.student, {});
      const at::NoGradGuard no_grad;
      auto known = teacher->forward(batch.teacher, {});
      if (step == 0) {
        const auto value = supervised.evaluate(known, nullptr, batch.labels, batch.shares, setup.world());
        first["teacher"] = value.terms[0].item<double>();
      }
      outputs = {known.img_raw, known.txt_raw, known.img_proj, known.txt_proj, std::move(known.logits)};
    }
    optimizer.zero_grad();
    const auto value = student.objective().evaluate(said, &outputs, batch.labels, batch.shares, setup.world());
    value.total_for_backward.backward();
    optimizer.step(config.student_lr);
    totals.push_back(value.terms[0].item<double>());
    const auto names = student.objective().term_names();
    for (std::size_t i = 0; step == 0 && i < names.size(); ++i)
      first[i == 0 ? "student" : names[i]] = value.terms[static_cast<std::int64_t>(i)].item<double>();
  }
  return {{"unit", "loss"}, {"first", first}, {"steps", totals}};
}

}  // namespace

const std::vector<std::string>& measurements() {
  static const std::vector<std::string> names{"teacher", "student_online", "student_cached", "cache_build",
                                              "eval",    "loader",         "synth",          "synth_teacher",
                                              "startup", "allreduce",      "losses"};
  return names;
}

Json measure(const Options& options, const LoadedConfig& loaded, const MpiSession& mpi) {
  const auto& what = options.what;
  if (what == "allreduce") {
    at::set_num_threads(1);
    return all_reduce(*make_world(mpi, choose_device(loaded.config.device)));
  }
  Setup setup(options, loaded, mpi, /*pack_now=*/what != "startup");
  if (what == "teacher") return steps(setup, Role::teacher, Outputs::none, false);
  if (what == "student_online") return steps(setup, Role::student, Outputs::live, false);
  if (what == "student_cached") return steps(setup, Role::student, Outputs::cached, false);
  if (what == "synth") return steps(setup, Role::student, Outputs::cached, true);
  if (what == "synth_teacher") return steps(setup, Role::teacher, Outputs::none, true);
  if (what == "cache_build") return cache_build(setup, options.scale == "medium" ? 4 : 1);
  if (what == "eval") return evaluation(setup);
  if (what == "loader") return loading(setup);
  if (what == "losses") return losses(setup);
  if (what == "startup") return startup(setup);
  throw UsageError("--what {}: unknown", what);
}

}  // namespace mmkd::bench
