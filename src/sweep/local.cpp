#include "mmkd/sweep/local.h"

#include <algorithm>
#include <csignal>
#include <nlohmann/json.hpp>
#include <thread>

#include "mmkd/base/error.h"
#include "mmkd/base/files.h"
#include "mmkd/base/json_file.h"
#include "mmkd/base/signals.h"
#include "mmkd/report/progress.h"
#include "mmkd/stages/lock.h"

namespace mmkd {
namespace {

using Clock = std::chrono::steady_clock;

std::optional<ProcessIdentity> runner_of(const Sweep& sweep) {
  const auto process = process_from_json(json_object_or_empty(SweepFolder(sweep).runner()));
  if (process.pid <= 0 || has_ended(process)) return std::nullopt;
  return process;
}

/// Says, while it lives, that this process runs the sweep.
class RunnerMark {
 public:
  explicit RunnerMark(const Sweep& sweep) : file_(SweepFolder(sweep).runner()) {
    if (const auto other = runner_of(sweep)) {
      throw UsageError("{}: process {} on {} runs this sweep already; `mmkd sweep status` says how far it is",
                       sweep.file.string(), other->pid, other->host);
    }
    write_file_atomic(file_, to_json(this_process()).dump() + "\n");
  }
  ~RunnerMark() {
    std::error_code ignored;
    fs::remove(file_, ignored);
  }
  RunnerMark(const RunnerMark&) = delete;
  RunnerMark& operator=(const RunnerMark&) = delete;

 private:
  fs::path file_;
};

class LocalRunner {
 public:
  LocalRunner(const SweepGraph& graph, const LocalOptions& options)
      : graph_(graph), options_(options), folder_(graph.sweep), states_(graph.nodes.size(), State::open) {}

  SweepOutcome run() {
    for (std::size_t i = 0; i < graph_.nodes.size(); ++i) {
      if (!is_done(graph_, graph_.nodes[i])) continue;
      states_[i] = State::done;
      ++outcome_.reused;
    }
    say(fmt::format("{}: {} runs, {} stages, {} of them there already", graph_.sweep.name, graph_.sweep.runs.size(),
                    graph_.nodes.size(), outcome_.reused));
    for (;;) {
      look_for_stop();
      if (!outcome_.interrupted) start_ready();
      if (running_.empty()) break;
      constexpr auto kPoll = std::chrono::milliseconds(50);
      std::this_thread::sleep_for(kPoll);
      collect();
      show_progress();
    }
    for (std::size_t i = 0; i < states_.size(); ++i) {
      if (states_[i] == State::open && is_blocked(i)) ++outcome_.blocked;
    }
    return outcome_;
  }

 private:
  enum class State { open, running, done, failed };
  struct Running {
    std::size_t node = 0;
    std::unique_ptr<RunningTask> task;
  };

  bool parents_done(std::size_t node) const {
    const auto& parents = graph_.nodes[node].parents;
    return std::all_of(parents.begin(), parents.end(), [&](auto parent) { return states_[parent] == State::done; });
  }

  bool is_blocked(std::size_t node) const {
    const auto& parents = graph_.nodes[node].parents;
    return std::any_of(parents.begin(), parents.end(), [&](auto parent) {
      return states_[parent] == State::failed || (states_[parent] == State::open && is_blocked(parent));
    });
  }

  void start_ready() {
    for (std::size_t i = 0; i < states_.size() && running_.size() < static_cast<std::size_t>(options_.jobs); ++i) {
      if (states_[i] != State::open || !parents_done(i)) continue;
      const auto& node = graph_.nodes[i];
      states_[i] = State::running;
      Launch launch = options_.launch;
      if (options_.cores > 0)
        launch.environment["OMP_NUM_THREADS"] = std::to_string(threads_of_node(graph_, i, options_));
      running_.push_back({i, std::make_unique<RunningTask>(folder_, read_task(folder_, node.id), launch)});
      say(fmt::format("{} {}: started, for {}", counter(), node.id, for_whom(node)));
    }
  }

  std::string for_whom(const SweepNode& node) const {
    const auto& first = graph_.sweep.runs[node.runs.front()].name;
    return node.runs.size() == 1 ? "run " + first : fmt::format("{} runs ({}, …)", node.runs.size(), first);
  }

  std::string counter() const {
    const auto done = std::count(states_.begin(), states_.end(), State::done);
    return fmt::format("[{}/{}]", done, states_.size());
  }

  void collect() {
    std::vector<Running> still;
    for (auto& one : running_) {
      const auto record = one.task->poll();
      if (!record) {
        still.push_back(std::move(one));
        continue;
      }
      finished(one.node, *record);
    }
    running_ = std::move(still);
  }

  void finished(std::size_t number, const NodeRecord& record) {
    const auto& node = graph_.nodes[number];
    if (record.state == "done" && is_done(graph_, node)) {
      states_[number] = State::done;
      ++outcome_.built;
      return say(fmt::format("{} {}: done in {:.1f} s", counter(), node.id, record.seconds));
    }
    const bool stopping = outcome_.interrupted;
    if (stopping && record.state == "interrupted") {
      states_[number] = State::open;
      return say(fmt::format("{} {}: stopped, with a checkpoint", counter(), node.id));
    }
    if (!stopping && is_worth_retrying(record.exit_code) && tries_[number]++ < options_.retries) {
      states_[number] = State::open;
      return say(fmt::format("{} {}: exit code {} ({}); trying again", counter(), node.id, record.exit_code,
                             record.error.empty() ? "interrupted" : record.error));
    }
    states_[number] = State::failed;
    ++outcome_.failed;
    const std::string why = record.state == "done" ? "it ended well, but its artifact is not there" : record.error;
    say(fmt::format("{} {}: FAILED, exit code {}: {}\n      log: {}", counter(), node.id, record.exit_code, why,
                    folder_.log(node.id).string()));
  }

  void look_for_stop() {
    if (!stop_requested() || outcome_.interrupted) return;
    outcome_.interrupted = true;
    say(fmt::format("stopping: {} running stages write their checkpoints", running_.size()));
    for (const auto& one : running_) one.task->stop();
  }

  /// On a terminal: one line with what the running nodes say of themselves.
  void show_progress() {
    if (!terminal_ || Clock::now() - shown_ < std::chrono::seconds(1)) return;
    shown_ = Clock::now();
    std::string text;
    for (const auto& one : running_) {
      const auto& node = graph_.nodes[one.node];
      const auto owner = StageLock::owner(StageStore(artifacts_root(graph_.config_of(node))).folder(node.inputs));
      text += fmt::format("{}{} {}", text.empty() ? "" : " | ", node.id,
                          owner && !owner->progress.empty() ? owner->progress : "…");
    }
    constexpr std::size_t kWidth = 118;
    if (text.size() > kWidth) text.resize(kWidth);
    fmt::print(options_.out, "\r{}\033[K", text);
    std::fflush(options_.out);
    line_open_ = true;
  }

  void say(const std::string& text) {
    if (line_open_) fmt::print(options_.out, "\r\033[K");
    line_open_ = false;
    fmt::print(options_.out, "{}\n", text);
    std::fflush(options_.out);
  }

  const SweepGraph& graph_;
  const LocalOptions& options_;
  SweepFolder folder_;
  std::vector<State> states_;
  std::map<std::size_t, int> tries_;
  std::vector<Running> running_;
  SweepOutcome outcome_;
  bool terminal_ = is_terminal(options_.out), line_open_ = false;
  Clock::time_point shown_{};
};

}  // namespace

int threads_of_node(const SweepGraph& graph, std::size_t node, const LocalOptions& options) {
  std::vector<int> depths;
  for (const auto& one : graph.nodes) {
    int depth = 0;
    for (const auto parent : one.parents) depth = std::max(depth, depths[parent] + 1);
    depths.push_back(depth);
  }
  const auto beside = std::count(depths.begin(), depths.end(), depths[node]);
  const auto nodes = static_cast<int>(std::min<std::ptrdiff_t>(options.jobs, beside));
  return std::max(1, options.cores / (nodes * std::max(1, options.launch.ranks)));
}

SweepOutcome run_sweep(const SweepGraph& graph, const LocalOptions& options) {
  make_folder(SweepFolder(graph.sweep).root);
  const RunnerMark mark(graph.sweep);
  write_tasks(graph);
  return LocalRunner(graph, options).run();
}

bool stop_local_runner(const Sweep& sweep) {
  const auto runner = runner_of(sweep);
  if (!runner || runner->host != host_name()) return false;
  return ::kill(static_cast<pid_t>(runner->pid), SIGTERM) == 0;
}

}  // namespace mmkd
