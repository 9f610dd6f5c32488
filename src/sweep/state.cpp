#include "mmkd/sweep/state.h"

#include <nlohmann/json.hpp>

#include "mmkd/base/error.h"
#include "mmkd/base/files.h"
#include "mmkd/base/json_file.h"
#include "mmkd/config/print.h"
#include "mmkd/stages/lock.h"

namespace mmkd {
namespace {

using Json = nlohmann::json;

template <class Value>
void take(const Json& json, const char* key, Value& value) {
  try {
    if (json.contains(key)) value = json.at(key).get<Value>();
  } catch (const Json::exception&) {
    // Written by hand, or by another version: as if it were not there.
  }
}

std::string summary(const LockOwner& owner) {
  const std::string who = fmt::format("process {} on {} since {}", owner.pid, owner.host, owner.since);
  return owner.progress.empty() ? who : owner.progress + " (" + who + ")";
}

NodeState state_of_job(const std::string& state) {
  for (const char* waits : {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "RESIZING", "SUSPENDED", "STOPPED"}) {
    if (state == waits) return NodeState::queued;
  }
  for (const char* runs : {"RUNNING", "COMPLETING", "STAGE_OUT", "SIGNALING"}) {
    if (state == runs) return NodeState::running;
  }
  return state.empty() || state == "COMPLETED" ? NodeState::interrupted : NodeState::failed;
}

/// What a node's record and SLURM say of one that is not done and whose stage nobody builds.
NodeStatus idle_status(const NodeRecord& record, const SlurmJob* job) {
  const auto of_job = job == nullptr ? NodeState::interrupted : state_of_job(job->state);
  if (of_job == NodeState::queued || of_job == NodeState::running) {
    const bool told = !job->reason.empty() && job->reason != "None";
    return {of_job, fmt::format("job {}: {}{}{}", job->id, job->state, told ? ", " : "", told ? job->reason : ""), 0};
  }
  if (record.state == "running" && record.process && !has_ended(*record.process) && job == nullptr)
    return {NodeState::running, fmt::format("process {} on {}", record.process->pid, record.process->host), 0};
  if (record.state == "failed")
    return {NodeState::failed, fmt::format("exit code {}: {}", record.exit_code, record.error), record.seconds};
  if (of_job == NodeState::failed) return {NodeState::failed, fmt::format("job {}: {}", job->id, job->state), 0};
  if (record.state == "interrupted" || record.state == "running")
    return {NodeState::interrupted, "goes on from its last checkpoint", record.seconds};
  if (job != nullptr) return {NodeState::interrupted, fmt::format("job {} is gone; submit again", job->id), 0};
  return {};
}

/// Failures hold up what needs them, and nothing else.
void note_parents(const SweepGraph& graph, std::size_t number, std::vector<NodeStatus>& all) {
  auto& status = all[number];
  if (status.state != NodeState::waiting) return;
  for (const auto parent : graph.nodes[number].parents) {
    const auto state = all[parent].state;
    if (state == NodeState::failed || state == NodeState::blocked) {
      status = {NodeState::blocked, "needs " + graph.nodes[parent].id, 0};
      return;
    }
    if (state != NodeState::done && status.detail.empty()) status.detail = "needs " + graph.nodes[parent].id;
  }
}

}  // namespace

void write_tasks(const SweepGraph& graph) {
  const SweepFolder folder(graph.sweep);
  for (const auto& run : graph.sweep.runs) write_file_atomic(folder.config(run.name), to_yaml(run.loaded.config));
  for (const auto& node : graph.nodes) {
    const auto& run = graph.sweep.runs[node.builder];
    const bool shared = node.stage == "pack" || node.stage == "teacher" || node.stage == "cache";
    const Json json{
        {"stage", node.stage},
        {"until", node.stage == "test" ? "" : node.name},
        {"config", folder.config(run.name).string()},
        {"log_dir", (shared ? folder.root / "nodes" / node.id : run.loaded.config.logging.log_dir).string()}};
    write_file_atomic(folder.task(node.id), json.dump(1) + "\n");
  }
}

NodeTask read_task(const SweepFolder& folder, const std::string& node) {
  const auto file = folder.task(node);
  try {
    const auto json = Json::parse(read_file(file));
    return {.id = node,
            .stage = json.at("stage").get<std::string>(),
            .until = json.at("until").get<std::string>(),
            .config = json.at("config").get<std::string>(),
            .log_dir = json.at("log_dir").get<std::string>()};
  } catch (const Json::exception& e) {
    throw Error("{}: is damaged ({}); run or submit the sweep again", file.string(), e.what());
  }
}

NodeRecord read_record(const SweepFolder& folder, const std::string& node) {
  const auto json = json_object_or_empty(folder.record(node));
  NodeRecord record;
  take(json, "state", record.state);
  take(json, "exit_code", record.exit_code);
  take(json, "attempts", record.attempts);
  take(json, "seconds", record.seconds);
  take(json, "error", record.error);
  if (json.contains("process")) record.process = process_from_json(json["process"]);
  return record;
}

void write_record(const SweepFolder& folder, const std::string& node, const NodeRecord& record) {
  Json json{{"state", record.state},
            {"exit_code", record.exit_code},
            {"attempts", record.attempts},
            {"seconds", record.seconds},
            {"error", record.error}};
  if (record.process) json["process"] = to_json(*record.process);
  write_file_atomic(folder.record(node), json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n");
}

std::string error_line(const fs::path& log) {
  constexpr std::size_t kTail = 64 << 10, kMost = 240;
  std::string text;
  try {
    text = read_file(log);
  } catch (const Error&) {
    return "";
  }
  if (text.size() > kTail) text.erase(0, text.size() - kTail);
  std::string last, own;
  for (std::size_t at = 0; at < text.size();) {
    const auto end = std::min(text.find('\n', at), text.size());
    const auto line = text.substr(at, end - at);
    at = end + 1;
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    last = line;
    for (const char* program : {"mmkd-ddp: ", "mmkd-pack: ", "mmkd: ", "run.sh: "}) {
      if (line.starts_with(program)) own = line;
    }
  }
  std::string line = own.empty() ? last : own;
  if (line.size() > kMost) line = line.substr(0, kMost) + "…";
  return line;
}

bool is_in_queue(const SlurmJob& job) {
  const auto state = state_of_job(job.state);
  return state == NodeState::queued || state == NodeState::running;
}

std::string_view name(NodeState state) {
  switch (state) {
    case NodeState::done:
      return "done";
    case NodeState::running:
      return "running";
    case NodeState::queued:
      return "queued";
    case NodeState::interrupted:
      return "interrupted";
    case NodeState::failed:
      return "failed";
    case NodeState::blocked:
      return "blocked";
    case NodeState::waiting:
      return "waiting";
  }
  return "";
}

bool is_done(const SweepGraph& graph, const SweepNode& node) {
  const StageStore store(artifacts_root(graph.config_of(node)));
  if (!store.state(node.inputs, {}, false).ready) return false;
  return node.stage != "test" || has_results(graph.config_of(node).logging.log_dir, graph.plans[node.builder]);
}

std::vector<NodeStatus> sweep_status(const SweepGraph& graph, const SlurmJobs& jobs) {
  const SweepFolder folder(graph.sweep);
  std::vector<NodeStatus> all(graph.nodes.size());
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    const auto& node = graph.nodes[i];
    const auto record = read_record(folder, node.id);
    const StageStore store(artifacts_root(graph.config_of(node)));
    if (is_done(graph, node)) {
      // Another sweep, or a run, may have built it: then its artifact says how long that took.
      const bool built_here = record.state == "done" && record.seconds > 0;
      all[i] = {NodeState::done, "", built_here ? record.seconds : store.open(node.inputs).seconds};
      continue;
    }
    const auto owner = StageLock::owner(store.folder(node.inputs));
    const auto job = jobs.find(node.id);
    all[i] = owner ? NodeStatus{NodeState::running, summary(*owner), 0}
                   : idle_status(record, job == jobs.end() ? nullptr : &job->second);
    note_parents(graph, i, all);
  }
  return all;
}

}  // namespace mmkd
