#include "mmkd/pipeline/run.h"

#include <ATen/Parallel.h>

#include <fmt/ranges.h>
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <set>
#include <string_view>

#include "mmkd/base/error.h"
#include "mmkd/base/files.h"
#include "mmkd/base/log.h"
#include "mmkd/comm/agree.h"
#include "mmkd/comm/liveness.h"
#include "mmkd/config/names.h"
#include "mmkd/config/print.h"
#include "mmkd/data/pack.h"
#include "mmkd/pipeline/cpu_memory.h"
#include "mmkd/pipeline/device.h"
#include "mmkd/pipeline/job.h"
#include "mmkd/plan/model_files.h"
#include "mmkd/stages/building.h"

namespace mmkd {
namespace {

using Clock = std::chrono::steady_clock;

/// Collective. The packed data; where it lies rank 0 finds out, since the key needs digests of all files.
PackedInfo find_packed(const Config& config, const MpiSession& mpi) {
  const std::string folder = from_rank_zero(mpi, [&] { return locate_pack(config).string(); });
  PackedInfo info;
  on_all_ranks(mpi, [&] { info = read_packed_info(folder); });
  return config.data.on_bad_record == OnBadRecord::quarantine ? without_damaged_records(std::move(info), mpi) : info;
}

Job prepare(const LoadedConfig& loaded, const World& world, const RunOptions& options) {
  const auto& config = loaded.config;
  Job job{.loaded = loaded,
          .config = config,
          .options = options,
          .world = world,
          .packed = find_packed(config, world.mpi()),
          .inputs = {},
          .teachers = {},
          .student = {},
          .plan = {},
          .store = StageStore(artifacts_root(config)),
          .stages = {},
          .events = {},
          .building_since = {}};
  on_all_ranks(world.mpi(), [&] {
    // A damaged shard of any split is told now, not after the training.
    for (const Split split : kSplits) {
      if (job.packed.counts[static_cast<std::size_t>(split)] > 0) (void)PackedSplit(job.packed, split, false);
    }
    job.inputs = input_specs(job.packed);
    job.teachers = resolve_teachers(config, job.packed);
    if (!config.training.teacher_only) job.student = resolve_student(config, job.packed);
    (void)Sampler(job.packed.counts[0], config.data.batch_size, world.size(),
                  world.rank());  // refuses a batch smaller than the ranks
  });
  const auto digests = weight_digests(config, world.mpi());
  on_all_ranks(world.mpi(), [&] {
    job.plan = make_plan(config, {job.packed.input_keys}, at::DeviceTypeName(world.device().type(), true), digests);
  });
  return job;
}

void tell(const Job& job, const nlohmann::ordered_json& event) {
  if (job.events) job.events->write(event);
}

/// Collective. Runs `build` unless the stage's artifact can be used, and notes how long it took.
template <class Build>
StageArtifact reuse_or_build(Job& job, const std::string& name, const StageInputs& inputs, const Finished& finished,
                             const Build& build) {
  const auto start = Clock::now();
  auto state = stage_state(job, inputs, parents_of(inputs, finished));
  std::unique_ptr<StageLock> lock;
  if (!state.ready) {
    lock = lock_stage(job.world.mpi(), job.store, inputs, job.config.watchdog.dead_after);
    state = stage_state(job, inputs, parents_of(inputs, finished));  // another job may have built it meanwhile
  }
  if (state.ready) {
    log::info("{}: reused {}", name, state.reason);
    // What a builder left that was killed after it had finished.
    if (job.world.rank() == 0) fs::remove_all(job.store.work_folder(inputs));
  } else {
    log::info("{}: building ({})", name, state.reason);
  }
  tell(job, {{"event", "stage"}, {"stage", name}, {"state", state.ready ? "reused" : "building"}});
  job.building_since = Clock::now();
  const auto artifact = state.ready ? job.store.open(inputs) : build();
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
  job.stages.push_back({name, inputs.key(), state.ready, seconds, artifact.seconds});
  if (!state.ready) tell(job, {{"event", "stage"}, {"stage", name}, {"state", "done"}, {"seconds", seconds}});
  return artifact;
}

Finished data_of(const Job& job) {
  Finished finished;
  finished.data_teacher = {job.packed.folder, job.plan.data[0].key(), job.packed.input_contents[0]};
  finished.data_student = {job.packed.folder, job.plan.data[1].key(), job.packed.input_contents[1]};
  return finished;
}

std::string parameters_text(const ModelSource& source) {
  const auto counts = count_parameters(source);
  const double megabytes = 4.0 * static_cast<double>(counts.total()) / 1e6;
  return fmt::format(
      "{:.2f} M parameters (vision {:.2f}, text {:.2f}), {:.0f} MB for weights, gradients and optimizer state",
      static_cast<double>(counts.total()) / 1e6, static_cast<double>(counts.vision) / 1e6,
      static_cast<double>(counts.text) / 1e6, 4 * megabytes);
}

void require_stage(const JobPlan& plan, const std::string& until) {
  std::vector<std::string> names;
  for (const auto& [name, inputs] : stages_of(plan)) names.push_back(name);
  if (until.empty() || std::find(names.begin(), names.end(), until) != names.end()) return;
  throw UsageError("--until {}: this configuration has no such stage; expected one of {}", until,
                   fmt::join(names, ", "));
}

/// Where a finished stage goes.
void note_finished(Finished& finished, const StageInputs& inputs, const StageArtifact& artifact) {
  if (inputs.stage == "teacher") finished.teachers.push_back(artifact);
  if (inputs.stage == "cache") finished.caches.push_back(artifact);
  if (inputs.stage == "joint") finished.joint = artifact;
  if (inputs.stage == "student") finished.student = artifact;
}

void print_plan(const Job& job) {
  std::vector<PlannedStage> rows{{"pack", job.packed.key, true, job.packed.folder.string()}};
  Finished finished = data_of(job);
  std::string missing;  // the first stage that is not there: those after it can't be looked at
  for (const auto& [name, inputs] : stages_of(job.plan)) {
    if (!missing.empty() && inputs->stage != "teacher") {
      const bool there = job.store.state(*inputs, {}, false).ready;
      rows.push_back({name, inputs->key(), false,
                      fmt::format("{}; needs {} first", there ? "to be checked" : "no artifact", missing)});
      continue;
    }
    const auto state = job.store.state(*inputs, parents_of(*inputs, finished), false);
    rows.push_back({name, inputs->key(), state.ready, state.reason});
    if (state.ready)
      note_finished(finished, *inputs, job.store.open(*inputs));
    else if (missing.empty())
      missing = name;
  }
  std::string text = plan_table(rows);
  text += fmt::format("\ndata      {} train, {} dev, {} test samples; {} steps per epoch\n", job.packed.counts[0],
                      job.packed.counts[1], job.packed.counts[2],
                      Sampler(job.packed.counts[0], job.config.data.batch_size, job.world.size(), 0).steps_per_epoch());
  for (const auto& teacher : job.teachers)
    text += fmt::format("{:<9} {}\n", numbered("teacher", teacher.number), parameters_text(teacher));
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
  if (config.training.mode == TrainingMode::joint) {
    add("joint");
  } else {
    if (!without_teacher(config)) add("teacher");
    if (plans_cache(config)) add("cache");
    if (!config.training.teacher_only) add("student");
  }
  add("test");
  const std::string text = plan_table(rows) +
                           "\nThe configuration, the tables and every image file are in order; weights and sizes are "
                           "checked once the data is packed.\n";
  std::fputs(text.c_str(), stdout);
}

/// "key: before, now" of every key that decides results and differs from the configuration in `file`.
std::vector<std::string> changed_keys(const fs::path& file, const Config& now) {
  nlohmann::json before;
  try {
    before = to_json(load_config(file).config);
  } catch (const Error& e) {
    return {e.what()};
  }
  const auto old_values = before.flatten();
  const auto new_values = to_json(now).flatten();
  std::set<std::string> pointers;
  for (const auto* values : {&old_values, &new_values}) {
    for (const auto& [pointer, value] : values->items()) pointers.insert(pointer);
  }
  std::vector<std::string> changed;
  for (const auto& pointer : pointers) {
    static constexpr std::string_view kOfNoEffect[] = {"/logging/",
                                                       "/artifacts/",
                                                       "/watchdog/",
                                                       "/evaluation/",
                                                       "/data/num_workers",
                                                       "/data/packed",
                                                       "/weights/",
                                                       "/training/checkpoint_minutes",
                                                       "/training/cuda_graphs",
                                                       "/training/gradient_checkpointing",
                                                       "/training/host_sharing",
                                                       "/training/keep_checkpoints",
                                                       "/training/max_bad_steps"};
    if (std::any_of(std::begin(kOfNoEffect), std::end(kOfNoEffect),
                    [&](std::string_view prefix) { return pointer.starts_with(prefix); }))
      continue;
    const auto text = [&](const nlohmann::json& values) {
      return values.contains(pointer) ? values.at(pointer).dump() : "not set";
    };
    if (text(old_values) == text(new_values)) continue;
    std::string key = pointer.substr(1);
    std::replace(key.begin(), key.end(), '/', '.');
    changed.push_back(fmt::format("{}: {} before, {} now", key, text(old_values), text(new_values)));
  }
  return changed;
}

/// What an interrupted run in the log folder has to say about this one. Results are never mixed up, since stages are
/// found by what they are made from; but who meant to go on wants to know why that is not so.
void look_at_interrupted_run(const Config& config, Resume resume) {
  const fs::path before = config.logging.log_dir / "config.yaml";
  const bool interrupted = fs::exists(before) && !fs::exists(config.logging.log_dir / "results.json");
  if (!interrupted) {
    if (resume == Resume::required)
      throw UsageError("--resume must: {} holds no interrupted run", config.logging.log_dir.string());
    return;
  }
  const auto changed = changed_keys(before, config);
  if (changed.empty()) return;
  const auto list = fmt::format("\n  {}", fmt::join(changed, "\n  "));
  if (resume == Resume::required)
    throw UsageError("--resume must: the interrupted run in {} has another configuration:{}",
                     config.logging.log_dir.string(), list);
  log::warn("{} holds an interrupted run with another configuration; what depends on these keys begins anew:{}",
            config.logging.log_dir.string(), list);
}

void log_start(const Job& job) {
  for (const auto& note : job.loaded.notes) log::info("{}", note);
  log::info("{} ranks with {} threads each on {}; data {} ({} train, {} dev, {} test)", job.world.size(),
            at::get_num_threads(), job.world.device().str(), job.packed.folder.string(), job.packed.counts[0],
            job.packed.counts[1], job.packed.counts[2]);
}

}  // namespace

std::map<std::string, std::string> weight_digests(const Config& config, const MpiSession& mpi) {
  const std::string text = from_rank_zero(mpi, [&] {
    DigestMemo memo(artifacts_root(config));
    return nlohmann::json(external_digests(config, memo)).dump();
  });
  return nlohmann::json::parse(text).get<std::map<std::string, std::string>>();
}

StageState stage_state(const Job& job, const StageInputs& inputs, const std::vector<StageArtifact>& parents) {
  const auto text = from_rank_zero(job.world.mpi(), [&] {
    const auto state = job.store.state(inputs, parents, true);
    return (state.ready ? "1" : "0") + state.reason;
  });
  return {text[0] == '1', text.substr(1)};
}

namespace {

StageArtifact built(Job& job, const StageInputs& inputs, std::size_t number, const Finished& finished) {
  if (inputs.stage == "teacher") return teacher_stage(job, number, finished);
  if (inputs.stage == "cache") return cache_stage(job, number, finished);
  if (inputs.stage == "joint") return joint_stage(job, finished);
  if (inputs.stage == "student") return student_stage(job, finished);
  return test_stage(job, finished);
}

/// Collective. The job of one seed.
void run_one(const LoadedConfig& loaded, const World& world, const RunOptions& options) {
  const auto& config = loaded.config;
  Job job = prepare(loaded, world, options);
  if (options.dry_run) {
    on_rank_zero(world.mpi(), [&] { print_plan(job); });
    return;
  }
  on_rank_zero(world.mpi(), [&] {
    require_writable(config.logging.log_dir, "logging.log_dir");
    require_writable(artifacts_root(config), "artifacts.root");
    log::set_file(config.logging.log_dir / "run.log");
    for (const auto& folder : {config.logging.log_dir, config.logging.log_dir / "student_hf"})
      remove_stale_temporaries(folder, std::chrono::hours(24));
    look_at_interrupted_run(config, options.resume);
    write_file_atomic(config.logging.log_dir / "config.yaml", to_yaml(config));
    // Of a run before: this one is not finished yet. What has just these inputs stays right whatever is built again.
    if (options.until.empty() || !has_results(config.logging.log_dir, job.plan))
      fs::remove(config.logging.log_dir / "results.json");
    log_start(job);
    job.events = std::make_shared<EventLog>(config.logging.log_dir / "events.jsonl");
    tell(job, {{"event", "run"},
               {"state", "started"},
               {"seed", config.training.seed},
               {"ranks", world.size()},
               {"threads", at::get_num_threads()},
               {"device", world.device().str()}});
  });
  on_all_ranks(world.mpi(), [&] { require_stage(job.plan, options.until); });
  Finished finished = data_of(job);
  StageArtifact test;
  for (const auto& [name, inputs] : stages_of(job.plan)) {
    const auto number = inputs->stage == "cache" ? finished.caches.size() : finished.teachers.size();
    test = reuse_or_build(job, name, *inputs, finished, [&] { return built(job, *inputs, number, finished); });
    note_finished(finished, *inputs, test);
    if (name == options.until) {
      if (world.rank() == 0) log::info("{}: that was the last stage asked for", name);
      return;
    }
  }
  on_rank_zero(world.mpi(), [&] {
    write_artifacts(job, finished, test);
    tell(job, {{"event", "run"}, {"state", "finished"}});
  });
}

/// The configuration of one of several seeds.
LoadedConfig of_seed(const LoadedConfig& loaded, std::int64_t seed) {
  LoadedConfig one = loaded;
  auto& config = one.config;
  config.artifacts.root = artifacts_root(loaded.config);  // shared by all
  config.training.seed = seed;
  config.training.seeds.clear();
  config.logging.log_dir /= fmt::format("seed-{}", seed);
  return one;
}

/// Rank 0: what the seeds have in common, from their results.json.
void write_seeds(const Config& config) {
  std::vector<nlohmann::ordered_json> results;
  for (const auto seed : config.training.seeds) {
    const auto file = config.logging.log_dir / fmt::format("seed-{}", seed) / "results.json";
    results.push_back(nlohmann::ordered_json::parse(read_file(file)));
  }
  const auto summary = summarize_seeds(results);
  write_file_atomic(config.logging.log_dir / "seeds.json", summary.dump(1) + "\n");
  std::string text = fmt::format("\nmean ± standard deviation over {} seeds\n", results.size());
  for (const char* model : {"teacher", "student"}) {
    if (!summary.contains(model)) continue;
    for (const auto& [key, value] : summary.at(model).items()) {
      if (key.starts_with("test_") && key.ends_with("_f1"))
        text += fmt::format("{:<8} {:<28} {:.3f} ± {:.3f}\n", model, key, value.at("mean").get<double>(),
                            value.at("std").get<double>());
    }
  }
  text += (config.logging.log_dir / "seeds.json").string() + "\n";
  log::flush();
  std::fputs(text.c_str(), stdout);
}

LivenessOptions liveness_options(const Config& config) {
  const auto milliseconds = [](double seconds) { return std::chrono::milliseconds(std::llround(seconds * 1e3)); };
  LivenessOptions options{.dead_after = milliseconds(config.watchdog.dead_after),
                          .stalled_after = milliseconds(config.watchdog.stalled_after),
                          .network_interface = ""};
  if (const char* chosen = std::getenv("MMKD_INTERFACE")) options.network_interface = chosen;
  return options;
}

/// On such CPUs oneDNN computes products of bfloat16 by other instructions; steps took three to eleven times as long as
/// in float32.
void warn_of_emulated_bfloat16([[maybe_unused]] const Config& config, [[maybe_unused]] at::DeviceType device,
                               [[maybe_unused]] const MpiSession& mpi) {
#if defined(__x86_64__)
  if (config.training.precision != Precision::bf16 || device != at::kCPU || mpi.rank() != 0) return;
  if (__builtin_cpu_supports("avx512bf16")) return;
  log::warn(
      "training.precision: bf16 on a CPU that has no instructions for it (AVX512_BF16): several times slower than fp32 "
      "here. Unless this is for comparison, set training.precision: fp32.");
#endif
}

}  // namespace

void run_job(const LoadedConfig& loaded, const MpiSession& mpi, const RunOptions& options) {
  const auto& config = loaded.config;
  at::DeviceType device = at::kCPU;
  on_all_ranks(mpi, [&] { device = choose_device(config.device); });
  divide_cores(mpi);
  warn_of_emulated_bfloat16(config, device, mpi);
  keep_tensor_memory();
  const Liveness liveness(mpi, liveness_options(config));
  if (options.dry_run) {
    if (const auto key = missing_pack(config, mpi); !key.empty()) {
      on_rank_zero(mpi, [&] { print_plan_before_packing(config, key); });
      return;
    }
  }
  const auto world = make_world(mpi, device);
  if (config.training.seeds.empty()) return run_one(loaded, *world, options);
  for (const auto seed : config.training.seeds) run_one(of_seed(loaded, seed), *world, options);
  if (!options.dry_run) on_rank_zero(mpi, [&] { write_seeds(config); });
}

}  // namespace mmkd
