#include "mmkd/pipeline/run.h"

#include <ATen/Parallel.h>
#include <ATen/Utils.h>

#include <chrono>
#include <cstdio>
#include <thread>

#include "mmkd/base/error.h"
#include "mmkd/base/files.h"
#include "mmkd/base/log.h"
#include "mmkd/comm/agree.h"
#include "mmkd/config/names.h"
#include "mmkd/config/print.h"
#include "mmkd/data/pack.h"
#include "mmkd/dist/cuda_plugin.h"
#include "mmkd/pipeline/job.h"

namespace mmkd {
namespace {

using Clock = std::chrono::steady_clock;

at::DeviceType choose_device(Device wanted) {
  if (wanted == Device::cpu) return at::kCPU;
  const bool available = load_cuda_plugin() && at::hasCUDA();
  if (wanted == Device::cuda && !available) {
    throw UsageError(
        "device: cuda was asked for, but no GPU can be used here; set device: cpu, or leave it out to take what is "
        "there");
  }
  return available ? at::kCUDA : at::kCPU;
}

/// The cores of this host, divided among its ranks.
void divide_cores(const MpiSession& mpi) {
  const int cores = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  at::set_num_threads(std::max(1, cores / mpi.local_size()));
}

/// Collective. Where the packed data lies; rank 0 finds out, since the key needs digests of all files.
PackedInfo find_packed(const Config& config, const MpiSession& mpi) {
  const std::string folder = from_rank_zero(mpi, [&] { return locate_pack(config).string(); });
  PackedInfo info;
  on_all_ranks(mpi, [&] { info = read_packed_info(folder); });
  return info;
}

/// Collective. Digests of the weight files that training starts from.
std::map<std::string, std::string> external_digests(const Job& job) {
  const std::string text = from_rank_zero(job.world.mpi(), [&] {
    DigestMemo memo(artifacts_root(job.config));
    nlohmann::json digests = nlohmann::json::object();
    for (const auto* source : {&job.teacher, &job.student}) {
      if (!*source) continue;
      for (const auto& [name, file] : (*source)->files()) digests[name] = memo.file(file);
    }
    return digests.dump();
  });
  return nlohmann::json::parse(text).get<std::map<std::string, std::string>>();
}

Job prepare(const LoadedConfig& loaded, const World& world, const RunOptions& options) {
  const auto& config = loaded.config;
  Job job{.loaded = loaded,
          .config = config,
          .options = options,
          .world = world,
          .packed = find_packed(config, world.mpi()),
          .inputs = {},
          .teacher = {},
          .student = {},
          .plan = {},
          .store = StageStore(artifacts_root(config)),
          .stages = {}};
  on_all_ranks(world.mpi(), [&] {
    // A damaged shard of any split is told now, not after the training.
    for (const Split split : {Split::train, Split::dev, Split::test}) {
      if (job.packed.counts[static_cast<std::size_t>(split)] > 0) (void)PackedSplit(job.packed, split, false);
    }
    job.inputs = input_specs(job.packed);
    if (!without_teacher(config)) job.teacher = resolve_model(config, Role::teacher, job.packed);
    if (!config.training.teacher_only) job.student = resolve_model(config, Role::student, job.packed);
    (void)Sampler(job.packed.counts[0], config.data.batch_size, world.size(),
                  world.rank());  // refuses a batch smaller than the ranks
  });
  const auto digests = external_digests(job);
  on_all_ranks(world.mpi(), [&] {
    job.plan = make_plan(config, job.packed, at::DeviceTypeName(world.device().type(), true), digests);
  });
  return job;
}

/// Collective. Runs `build` unless the stage's artifact can be used, and notes how long it took.
template <class Build>
StageArtifact reuse_or_build(Job& job, const StageInputs& inputs, const std::vector<StageArtifact>& parents,
                             const Build& build) {
  const auto start = Clock::now();
  const auto state = stage_state(job, inputs, parents);
  if (state.ready) {
    log::info("{}: reused {}", inputs.stage, state.reason);
  } else {
    log::info("{}: building ({})", inputs.stage, state.reason);
  }
  const auto artifact = state.ready ? job.store.open(inputs) : build();
  job.stages.push_back(
      {inputs.stage, inputs.key(), state.ready, std::chrono::duration<double>(Clock::now() - start).count()});
  return artifact;
}

StageArtifact pack_artifact(const Job& job) { return {job.packed.folder, job.plan.pack.key(), job.packed.digest}; }

std::string parameters_text(const ModelSource& source) {
  const auto counts = count_parameters(source);
  const double megabytes = 4.0 * static_cast<double>(counts.total()) / 1e6;
  return fmt::format(
      "{:.2f} M parameters (vision {:.2f}, text {:.2f}), {:.0f} MB for weights, gradients and optimizer state",
      static_cast<double>(counts.total()) / 1e6, static_cast<double>(counts.vision) / 1e6,
      static_cast<double>(counts.text) / 1e6, 4 * megabytes);
}

void print_plan(const Job& job) {
  std::vector<PlannedStage> rows{{"pack", job.packed.key, true, job.packed.folder.string()}};
  std::vector<StageArtifact> pack{pack_artifact(job)};
  const auto add = [&](const StageInputs& inputs, const std::vector<const StageInputs*>& parents) {
    std::vector<StageArtifact> artifacts = pack;
    for (const auto* parent : parents) {
      if (!job.store.state(*parent, {}, false).ready) {
        rows.push_back({inputs.stage, inputs.key(), false, fmt::format("no artifact; needs {} first", parent->stage)});
        return;
      }
      artifacts.push_back(job.store.open(*parent));
    }
    const auto state = job.store.state(inputs, artifacts, false);
    rows.push_back({inputs.stage, inputs.key(), state.ready, state.reason});
  };
  const auto& plan = job.plan;
  if (plan.teacher) add(*plan.teacher, {});
  if (plan.cache) add(*plan.cache, {&*plan.teacher});
  if (plan.student) {
    std::vector<const StageInputs*> parents;
    if (plan.cache)
      parents.push_back(&*plan.cache);
    else if (plan.student->parents.contains("teacher"))
      parents.push_back(&*plan.teacher);
    add(*plan.student, parents);
  }
  std::vector<const StageInputs*> tested;
  if (plan.test.parents.contains("teacher")) tested.push_back(&*plan.teacher);
  if (plan.student) tested.push_back(&*plan.student);
  add(plan.test, tested);

  std::string text = plan_table(rows);
  text += fmt::format("\ndata      {} train, {} dev, {} test samples; {} steps per epoch\n", job.packed.counts[0],
                      job.packed.counts[1], job.packed.counts[2],
                      Sampler(job.packed.counts[0], job.config.data.batch_size, job.world.size(), 0).steps_per_epoch());
  if (job.teacher) text += fmt::format("teacher   {}\n", parameters_text(*job.teacher));
  if (job.student) text += fmt::format("student   {}\n", parameters_text(*job.student));
  text += fmt::format("ranks     {} with {} threads each, on {}\n", job.world.size(), at::get_num_threads(),
                      job.world.device().str());
  std::fputs(text.c_str(), stdout);
}

/// Collective. The key under which the data would be packed; empty: it is packed. Reads the data set's tables.
std::string missing_pack(const Config& config, const MpiSession& mpi) {
  return from_rank_zero(mpi, [&]() -> std::string {
    if (!config.data.packed.empty()) return "";
    const auto inputs = pack_stage_inputs(config);
    return StageStore(artifacts_root(config)).state(inputs, {}, false).ready ? "" : inputs.key();
  });
}

/// The plan while there is no packed data. The keys of the stages after it depend on its content.
void print_plan_before_packing(const Config& config, const std::string& pack_key) {
  std::vector<PlannedStage> rows{{"pack", pack_key, false, "no artifact: mmkd-pack builds it"}};
  const auto add = [&](const char* stage) { rows.push_back({stage, "", false, "needs pack first"}); };
  if (!without_teacher(config)) add("teacher");
  if (!config.training.teacher_only) {
    if (plans_cache(config)) add("cache");
    add("student");
  }
  add("test");
  const std::string text = plan_table(rows) +
                           "\nThe configuration, the tables and every image file are in order; weights and sizes are "
                           "checked once the data is packed.\n";
  std::fputs(text.c_str(), stdout);
}

void log_start(const Job& job) {
  for (const auto& note : job.loaded.notes) log::info("{}", note);
  log::info("{} ranks with {} threads each on {}; data {} ({} train, {} dev, {} test)", job.world.size(),
            at::get_num_threads(), job.world.device().str(), job.packed.folder.string(), job.packed.counts[0],
            job.packed.counts[1], job.packed.counts[2]);
}

}  // namespace

StageState stage_state(const Job& job, const StageInputs& inputs, const std::vector<StageArtifact>& parents) {
  const auto text = from_rank_zero(job.world.mpi(), [&] {
    const auto state = job.store.state(inputs, parents, true);
    return (state.ready ? "1" : "0") + state.reason;
  });
  return {text[0] == '1', text.substr(1)};
}

void run_job(const LoadedConfig& loaded, const MpiSession& mpi, const RunOptions& options) {
  const auto& config = loaded.config;
  at::DeviceType device = at::kCPU;
  on_all_ranks(mpi, [&] { device = choose_device(config.device); });
  divide_cores(mpi);
  if (options.dry_run) {
    if (const auto key = missing_pack(config, mpi); !key.empty()) {
      on_rank_zero(mpi, [&] { print_plan_before_packing(config, key); });
      return;
    }
  }
  const auto world = make_world(mpi, device);
  Job job = prepare(loaded, *world, options);
  if (options.dry_run) {
    on_rank_zero(mpi, [&] { print_plan(job); });
    return;
  }
  on_rank_zero(mpi, [&] {
    require_writable(config.logging.log_dir, "logging.log_dir");
    require_writable(artifacts_root(config), "artifacts.root");
    log::add_file(config.logging.log_dir / "run.log");
    write_file_atomic(config.logging.log_dir / "config.yaml", to_yaml(config));
    log_start(job);
  });

  const auto pack = pack_artifact(job);
  std::optional<StageArtifact> teacher, cache, student;
  if (job.plan.teacher)
    teacher = reuse_or_build(job, *job.plan.teacher, {pack}, [&] { return teacher_stage(job, pack); });
  if (job.plan.cache)
    cache = reuse_or_build(job, *job.plan.cache, {pack, *teacher}, [&] { return cache_stage(job, pack, *teacher); });
  if (job.plan.student) {
    std::vector<StageArtifact> parents{pack};
    if (cache)
      parents.push_back(*cache);
    else if (job.plan.student->parents.contains("teacher"))
      parents.push_back(*teacher);
    student = reuse_or_build(job, *job.plan.student, parents, [&] { return student_stage(job, pack, teacher, cache); });
  }
  std::vector<StageArtifact> tested{pack};
  if (job.plan.test.parents.contains("teacher")) tested.push_back(*teacher);
  if (student) tested.push_back(*student);
  const auto test = reuse_or_build(job, job.plan.test, tested, [&] { return test_stage(job, pack, teacher, student); });
  on_rank_zero(mpi, [&] { write_artifacts(job, teacher, student, test); });
}

}  // namespace mmkd
