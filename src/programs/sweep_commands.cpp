#include "sweep_commands.h"

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "mmkd/base/error.h"
#include "mmkd/base/files.h"
#include "mmkd/base/log.h"
#include "mmkd/base/signals.h"
#include "mmkd/sweep/local.h"
#include "mmkd/sweep/show.h"
#include "mmkd/sweep/slurm.h"

namespace mmkd {
namespace {

/// Where this program and its siblings lie.
fs::path programs() { return fs::read_symlink("/proc/self/exe").parent_path(); }

/// slurm/stage.sbatch, beside the programs or in share/.
fs::path stage_script() {
  const auto beside = programs() / "mmkd-stage.sbatch", shared = programs() / "../share/mmkd/slurm/stage.sbatch";
  for (const auto& file : {beside, shared}) {
    if (fs::exists(file)) return fs::canonical(file);
  }
  throw Error("{}: not found, nor {}; name the job script by `script` in the profile", beside.string(),
              shared.lexically_normal().string());
}

void print(const std::string& text) { std::fputs(text.c_str(), stdout); }

/// What every subcommand that reads a sweep takes.
struct SweepChoice {
  fs::path file;
  std::vector<std::string> overrides;
  std::string device;

  void add_to(CLI::App& app) {
    app.add_option("sweep", file, "The sweep's YAML file (docs/sweeps.md)")->required();
    app.add_option("--set", overrides, "Override a key in every run (repeatable)")->expected(1)->take_all();
    app.add_option("--device", device,
                   "cpu or cuda, where the runs take place on other machines than this (default: what `device` of each "
                   "configuration comes to here)")
        ->check(CLI::IsMember({"cpu", "cuda"}));
  }
  SweepGraph graph() const { return plan_sweep(load_sweep(file, overrides), device); }
};

struct PlanCommand {
  SweepChoice sweep;
  int run() const {
    const auto graph = sweep.graph();
    print(plan_text(graph, sweep_status(graph, slurm_jobs(graph))));
    return 0;
  }
};

struct RunCommand {
  SweepChoice sweep;
  LocalOptions options;

  void add_to(CLI::App& app) {
    sweep.add_to(app);
    app.add_option("-n,--ranks", options.launch.ranks, "Ranks of each stage (default: one for each GPU, or 1)")
        ->check(CLI::PositiveNumber);
    app.add_option("-j,--jobs", options.jobs, "Stages at a time")->check(CLI::PositiveNumber)->capture_default_str();
    app.add_option("--retries", options.retries, "Tries more of a stage whose process was lost")
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str();
  }

  int run() {
    install_stop_handlers();
    const auto graph = sweep.graph();
    options.launch.programs = programs();
    // One stage at a time divides them itself, by the ranks that it turns out to have.
    if (options.jobs > 1 && std::getenv("OMP_NUM_THREADS") == nullptr)
      options.cores = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
    const auto outcome = run_sweep(graph, options);
    print(fmt::format("{} stages built, {} were there, {} failed, {} not possible\n", outcome.built, outcome.reused,
                      outcome.failed, outcome.blocked));
    if (outcome.interrupted) {
      print("stopped; the same command goes on\n");
      return static_cast<int>(ExitCode::interrupted);
    }
    if (outcome.failed + outcome.blocked > 0) return static_cast<int>(ExitCode::failure);
    print(fmt::format("the runs are in {}; a report: mmkd report {} --out report.html\n", graph.sweep.logs.string(),
                      graph.sweep.logs.string()));
    return 0;
  }
};

struct StatusCommand {
  SweepChoice sweep;
  bool all = false;
  void add_to(CLI::App& app) {
    sweep.add_to(app);
    app.add_flag("--all", all, "Every stage, also those that are done or wait");
  }
  int run() const {
    const auto graph = sweep.graph();
    print(status_text(graph, sweep_status(graph, slurm_jobs(graph)), all));
    return 0;
  }
};

struct CancelCommand {
  SweepChoice sweep;
  int run() const {
    const auto graph = sweep.graph();
    const bool local = stop_local_runner(graph.sweep);
    const auto jobs = cancel_jobs(graph);
    if (local) print("the process that runs the sweep here was asked to stop; it writes its checkpoints first\n");
    if (jobs > 0) print(fmt::format("{} jobs were cancelled\n", jobs));
    if (!local && jobs == 0) print("nothing of this sweep runs here or waits in SLURM\n");
    return 0;
  }
};

struct SubmitCommand {
  SweepChoice sweep;
  fs::path profile;
  SlurmResources given;

  void add_to(CLI::App& app) {
    sweep.add_to(app);
    app.add_option("--profile", profile, "YAML: what jobs ask for (slurm/profile.yaml is one to start from)");
    app.add_option("--partition", given.partition, "Wins over the profile");
    app.add_option("--account", given.account, "Wins over the profile");
    given.time.clear();
    app.add_option("--time", given.time, "Time limit of each job; wins over the profile");
  }

  int run() const {
    SubmitOptions options;
    if (!profile.empty()) options.profile = load_slurm_profile(profile);
    const auto apply = [&](SlurmResources& resources) {
      if (!given.partition.empty()) resources.partition = given.partition;
      if (!given.account.empty()) resources.account = given.account;
      if (!given.time.empty()) resources.time = given.time;
    };
    apply(options.profile.resources);
    for (auto& [stage, resources] : options.profile.stages) apply(resources);
    auto choice = sweep;
    // A login node has no GPU; the jobs that ask for one do.
    if (choice.device.empty() && options.profile.of("teacher").gpus_per_node > 0) choice.device = "cuda";
    options.programs = programs();
    options.script = options.profile.script.empty() ? stage_script() : fs::canonical(options.profile.script);
    const auto jobs = submit_sweep(choice.graph(), options);
    for (const auto& job : jobs) print(job + "\n");
    if (jobs.empty()) print("nothing to submit: every stage is there, or in SLURM's hands\n");
    return 0;
  }
};

/// What a job of SLURM calls: one node, with its record.
struct NodeCommand {
  fs::path state;
  std::string node;
  Launch launch;

  void add_to(CLI::App& app) {
    app.add_option("state", state, "The sweep's folder `.sweep`")->required();
    app.add_option("node", node, "Name of the node")->required();
    app.add_option("-n,--ranks", launch.ranks, "Ranks")->check(CLI::PositiveNumber);
    app.add_option("--launcher", launch.launcher, "mpirun or srun")
        ->check(CLI::IsMember({"mpirun", "srun"}))
        ->capture_default_str();
  }

  int run() {
    install_stop_handlers();
    launch.programs = programs();
    const SweepFolder folder(state);
    RunningTask task(folder, read_task(folder, node), launch);
    bool asked = false;
    for (;;) {
      if (const auto record = task.poll()) {
        if (record->state == "failed") std::fprintf(stderr, "mmkd: %s: %s\n", node.c_str(), record->error.c_str());
        return record->exit_code;
      }
      if (stop_requested() && !asked) task.stop();
      asked = stop_requested().has_value();
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
  }
};

}  // namespace

struct SweepCommands::Impl {
  PlanCommand plan;
  RunCommand run;
  StatusCommand status;
  SubmitCommand submit;
  CancelCommand cancel;
  NodeCommand node;
  CLI::App *plan_app = nullptr, *run_app = nullptr, *status_app = nullptr, *submit_app = nullptr, *cancel_app = nullptr,
           *node_app = nullptr;
};

SweepCommands::SweepCommands() : impl_(std::make_unique<Impl>()) {}
SweepCommands::~SweepCommands() = default;

void SweepCommands::add_to(CLI::App& app) {
  auto* sweep = app.add_subcommand("sweep", "Many runs from one file; what they share is built once");
  sweep->require_subcommand(1);
  auto& all = *impl_;
  all.plan_app = sweep->add_subcommand("plan", "The stages, which of them are there, and what sharing saves");
  all.plan.sweep.add_to(*all.plan_app);
  all.run_app = sweep->add_subcommand("run", "Build what is missing on this machine");
  all.run.add_to(*all.run_app);
  all.status_app = sweep->add_subcommand("status", "How far the runs are, and what failed why");
  all.status.add_to(*all.status_app);
  all.submit_app = sweep->add_subcommand("submit", "Submit what is missing to SLURM");
  all.submit.add_to(*all.submit_app);
  all.cancel_app = sweep->add_subcommand("cancel", "Stop what runs of it, here and in SLURM");
  all.cancel.sweep.add_to(*all.cancel_app);
  all.node_app = sweep->add_subcommand("node", "Build one stage of a sweep that was submitted; its jobs call this");
  all.node.add_to(*all.node_app);
}

int SweepCommands::run() const {
  auto& all = *impl_;
  if (all.plan_app->parsed()) return all.plan.run();
  if (all.run_app->parsed()) return all.run.run();
  if (all.status_app->parsed()) return all.status.run();
  if (all.submit_app->parsed()) return all.submit.run();
  if (all.cancel_app->parsed()) return all.cancel.run();
  if (all.node_app->parsed()) return all.node.run();
  return 0;
}

}  // namespace mmkd
