#include "mmkd/sweep/slurm.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <sstream>

#include "mmkd/base/child_process.h"
#include "mmkd/base/error.h"
#include "mmkd/base/files.h"

namespace mmkd {
namespace {

/// MaxArraySize of a cluster that says nothing else is 1001.
constexpr std::size_t kMostTasks = 1000;

constexpr const char* kStageOrder[] = {"pack", "teacher", "cache", "joint", "student", "test"};

std::string text_of(const SlurmJobRef& ref) {
  return ref.index < 0 ? ref.job : fmt::format("{}_{}", ref.job, ref.index);
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) {
    if (!line.empty()) lines.push_back(line);
  }
  return lines;
}

std::vector<std::string> fields_of(const std::string& line) {
  std::vector<std::string> fields;
  std::istringstream stream(line);
  for (std::string field; std::getline(stream, field, '|');) fields.push_back(field);
  fields.resize(std::max<std::size_t>(fields.size(), 3));
  return fields;
}

std::map<std::string, std::string> read_job_ids(const SweepFolder& folder) {
  std::error_code error;
  if (!fs::exists(folder.jobs(), error)) return {};
  const auto json = nlohmann::json::parse(read_file(folder.jobs()), nullptr, false);
  std::map<std::string, std::string> ids;
  if (!json.is_object()) return ids;
  for (const auto& [node, id] : json.items()) {
    if (id.is_string()) ids[node] = id.get<std::string>();
  }
  return ids;
}

/// State and reason of this user's jobs, by id.
std::map<std::string, std::pair<std::string, std::string>> queue() {
  std::map<std::string, std::pair<std::string, std::string>> jobs;
  for (const auto& line : lines_of(output_of({"squeue", "--me", "--noheader", "--array", "--format=%i|%T|%r"}))) {
    const auto fields = fields_of(line);
    jobs[fields[0]] = {fields[1], fields[2]};
  }
  return jobs;
}

/// How jobs that have left the queue ended; nothing on clusters without accounting.
std::map<std::string, std::string> ended(const std::vector<std::string>& ids) {
  std::map<std::string, std::string> states;
  if (ids.empty() || !is_in_path("sacct")) return states;
  try {
    const auto text = output_of({"sacct", "--noheader", "--allocations", "--parsable2", "--format=JobID,State",
                                 fmt::format("--jobs={}", fmt::join(ids, ","))});
    for (const auto& line : lines_of(text)) {
      const auto fields = fields_of(line);
      states[fields[0]] = fields[1].substr(0, fields[1].find(' '));  // "CANCELLED by 0"
    }
  } catch (const Error&) {
    // No accounting here.
  }
  return states;
}

/// Does `ancestor` come before `node`, directly or through others?
bool comes_before(const SweepGraph& graph, std::size_t ancestor, std::size_t node) {
  const auto& parents = graph.nodes[node].parents;
  return std::any_of(parents.begin(), parents.end(),
                     [&](auto parent) { return parent == ancestor || comes_before(graph, ancestor, parent); });
}

/// Submits node after node and keeps what SLURM calls them.
class Submitter {
 public:
  Submitter(const SweepGraph& graph, const SubmitOptions& options)
      : graph_(graph), options_(options), folder_(graph.sweep), ids_(read_job_ids(folder_)) {
    const auto jobs = slurm_jobs(graph);
    for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
      const auto& node = graph.nodes[i];
      const auto job = jobs.find(node.id);
      if (is_done(graph, node)) {
        done_.insert(i);
      } else if (job != jobs.end() && is_in_queue(job->second)) {
        refs_[i] = ref_of(job->second.id);
      }
    }
  }

  std::vector<std::string> run() {
    for (const char* stage : kStageOrder) submit_stage(stage);
    return std::move(told_);
  }

 private:
  static SlurmJobRef ref_of(const std::string& id) {
    const auto underscore = id.find('_');
    if (underscore == std::string::npos) return {id, -1};
    return {id.substr(0, underscore), std::stoll(id.substr(underscore + 1))};
  }

  std::vector<SlurmJobRef> waits_for(std::size_t node) const {
    const auto& parents = graph_.nodes[node].parents;
    std::vector<SlurmJobRef> refs;
    for (const auto parent : parents) {
      if (done_.contains(parent)) continue;
      const bool implied = std::any_of(parents.begin(), parents.end(), [&](auto other) {
        return !done_.contains(other) && comes_before(graph_, parent, other);
      });
      if (!implied) refs.push_back(refs_.at(parent));
    }
    return refs;
  }

  void submit_stage(const std::string& stage) {
    std::vector<std::size_t> nodes;
    std::vector<std::vector<SlurmJobRef>> waits;
    for (std::size_t i = 0; i < graph_.nodes.size(); ++i) {
      if (graph_.nodes[i].stage != stage || done_.contains(i) || refs_.contains(i)) continue;
      nodes.push_back(i);
      waits.push_back(waits_for(i));
    }
    for (const auto& submission : group_nodes(nodes, waits)) submit(stage, submission);
  }

  void submit(const std::string& stage, const SlurmSubmission& submission) {
    std::string tasks;
    for (std::size_t i = 0; i < submission.nodes.size(); ++i) {
      tasks += fmt::format("{} {}\n", submission.indices.empty() ? 0 : submission.indices[i],
                           graph_.nodes[submission.nodes[i]].id);
    }
    // The nodes of a submission tell it from every other of this sweep.
    const auto file = folder_.root / "slurm" / (graph_.nodes[submission.nodes.front()].id + ".tasks");
    write_file_atomic(file, tasks);
    const auto answer = output_of(command(stage, submission, file));
    const auto id = answer.substr(0, answer.find_first_of(";\n"));
    for (std::size_t i = 0; i < submission.nodes.size(); ++i) {
      const SlurmJobRef ref{id, submission.indices.empty() ? -1 : submission.indices[i]};
      refs_[submission.nodes[i]] = ref;
      ids_[graph_.nodes[submission.nodes[i]].id] = text_of(ref);
    }
    // At once: what was submitted shall not be forgotten, whatever happens to the next.
    write_file_atomic(folder_.jobs(), nlohmann::json(ids_).dump(1) + "\n");
    told_.push_back(fmt::format(
        "{:<8} job {}{}{}: {}", stage, id,
        submission.indices.empty() ? "" : fmt::format(" ({} tasks)", submission.nodes.size()),
        submission.dependencies.empty() ? "" : fmt::format(" after {}", fmt::join(submission.dependencies, ",")),
        names(submission)));
  }

  std::string names(const SlurmSubmission& submission) const {
    constexpr std::size_t kNamed = 3;
    std::vector<std::string> ids;
    for (const auto node : submission.nodes) ids.push_back(graph_.nodes[node].id);
    if (ids.size() > kNamed) {
      ids.resize(kNamed);
      ids.emplace_back("…");
    }
    return fmt::format("{}", fmt::join(ids, ", "));
  }

  std::vector<std::string> command(const std::string& stage, const SlurmSubmission& submission,
                                   const fs::path& tasks) const {
    const auto& profile = options_.profile;
    const auto& resources = profile.of(stage);
    const auto log = folder_.root / "slurm" / (submission.indices.empty() ? "%j.log" : "%A_%a.log");
    std::vector<std::string> all{"sbatch",
                                 "--parsable",
                                 "--requeue",
                                 "--open-mode=append",
                                 fmt::format("--job-name={}:{}", graph_.sweep.name, stage),
                                 "--output=" + fs::absolute(log).string(),
                                 "--chdir=" + fs::current_path().string(),
                                 fmt::format("--nodes={}", resources.nodes),
                                 fmt::format("--ntasks-per-node={}", resources.ranks_per_node),
                                 fmt::format("--cpus-per-task={}", resources.cpus_per_rank),
                                 "--export=" + exported(resources)};
    if (profile.signal_before_end > 0) all.push_back(fmt::format("--signal=B:USR2@{}", profile.signal_before_end));
    if (resources.gpus_per_node > 0) all.push_back(fmt::format("--gpus-per-node={}", resources.gpus_per_node));
    for (const auto& [option, value] : {std::pair("time", &resources.time),
                                        {"mem", &resources.memory},
                                        {"partition", &resources.partition},
                                        {"account", &resources.account},
                                        {"qos", &resources.qos},
                                        {"constraint", &resources.constraint}}) {
      if (!value->empty()) all.push_back(fmt::format("--{}={}", option, *value));
    }
    if (!submission.indices.empty()) all.push_back(fmt::format("--array={}", fmt::join(submission.indices, ",")));
    if (!submission.dependencies.empty()) {
      all.push_back(fmt::format("--dependency={}", fmt::join(submission.dependencies, ",")));
      all.emplace_back("--kill-on-invalid-dep=yes");
    }
    all.insert(all.end(), resources.extra.begin(), resources.extra.end());
    all.push_back(options_.script.string());
    all.push_back(fs::absolute(tasks).string());
    return all;
  }

  std::string exported(const SlurmResources& resources) const {
    const auto& profile = options_.profile;
    std::map<std::string, std::string> variables = profile.environment;
    variables["MMKD_BIN"] = options_.programs.string();
    variables["MMKD_SWEEP_STATE"] = fs::absolute(folder_.root).string();
    variables["MMKD_RANKS"] = std::to_string(resources.nodes * resources.ranks_per_node);
    variables["MMKD_LAUNCHER"] = profile.launcher;
    variables["MMKD_MAX_REQUEUES"] = std::to_string(profile.max_requeues);
    if (!profile.setup.empty()) {
      const auto file = folder_.root / "slurm" / "setup.sh";
      write_file_atomic(file, profile.setup + "\n");
      variables["MMKD_SETUP"] = fs::absolute(file).string();
    }
    std::string text = "ALL";
    for (const auto& [name, value] : variables) {
      if (value.find(',') != std::string::npos)
        throw UsageError("{}: \"{}\" has a comma, which sbatch --export cannot pass on; set it in `setup`", name,
                         value);
      text += fmt::format(",{}={}", name, value);
    }
    return text;
  }

  const SweepGraph& graph_;
  const SubmitOptions& options_;
  SweepFolder folder_;
  std::map<std::string, std::string> ids_;  // node -> job
  std::set<std::size_t> done_;
  std::map<std::size_t, SlurmJobRef> refs_;  // nodes that SLURM has
  std::vector<std::string> told_;
};

struct WaitingNodes {
  std::vector<std::size_t> nodes;
  std::vector<std::vector<SlurmJobRef>> waits;
};

SlurmSubmission single(std::size_t node, const std::vector<SlurmJobRef>& waits) {
  SlurmSubmission one{.nodes = {node}, .indices = {}, .dependencies = {}};
  for (const auto& ref : waits) one.dependencies.push_back("afterok:" + text_of(ref));
  return one;
}

/// All of them as one array; nothing where their dependencies do not allow it.
std::optional<SlurmSubmission> as_array(const WaitingNodes& group) {
  SlurmSubmission array{.nodes = group.nodes, .indices = {}, .dependencies = {}};
  for (std::size_t j = 0; j < group.waits.front().size(); ++j) {
    const auto& first = group.waits.front()[j];
    std::vector<std::int64_t> of_nodes;
    for (const auto& refs : group.waits) of_nodes.push_back(refs[j].index);
    const std::set different(of_nodes.begin(), of_nodes.end());
    if (different.size() == 1) {
      array.dependencies.push_back("afterok:" + text_of(first));
      continue;
    }
    const bool one_each = different.size() == of_nodes.size();
    if (!one_each || (!array.indices.empty() && array.indices != of_nodes)) return std::nullopt;
    array.indices = of_nodes;
    array.dependencies.push_back("aftercorr:" + first.job);
  }
  if (array.indices.empty()) {
    for (std::size_t i = 0; i < group.nodes.size(); ++i) array.indices.push_back(static_cast<std::int64_t>(i));
  }
  return array;
}

/// Appends the submissions of nodes that wait for tasks of the same jobs, in the same order.
void add_submissions(const WaitingNodes& group, std::vector<SlurmSubmission>& all) {
  if (group.nodes.size() == 1) return all.push_back(single(group.nodes.front(), group.waits.front()));
  if (auto array = as_array(group)) return all.push_back(std::move(*array));
  // Those that wait for just the same tasks still go together.
  std::vector<WaitingNodes> alike;
  for (std::size_t i = 0; i < group.nodes.size(); ++i) {
    const auto found = std::find_if(alike.begin(), alike.end(),
                                    [&](const auto& other) { return other.waits.front() == group.waits[i]; });
    auto& part = found == alike.end() ? alike.emplace_back() : *found;
    part.nodes.push_back(group.nodes[i]);
    part.waits.push_back(group.waits[i]);
  }
  for (const auto& part : alike) add_submissions(part, all);
}

}  // namespace

std::vector<SlurmSubmission> group_nodes(const std::vector<std::size_t>& nodes,
                                         const std::vector<std::vector<SlurmJobRef>>& waits_for) {
  std::map<std::vector<std::string>, std::vector<WaitingNodes>> groups;  // by the jobs that are waited for
  std::vector<const std::vector<std::string>*> order;
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    std::vector<std::string> jobs;
    for (const auto& ref : waits_for[i]) jobs.push_back(ref.job);
    const auto [found, added] = groups.try_emplace(jobs);
    if (added) order.push_back(&found->first);
    auto& parts = found->second;
    if (parts.empty() || parts.back().nodes.size() == kMostTasks) parts.emplace_back();
    parts.back().nodes.push_back(nodes[i]);
    parts.back().waits.push_back(waits_for[i]);
  }
  std::vector<SlurmSubmission> all;
  for (const auto* jobs : order) {
    for (const auto& part : groups.at(*jobs)) add_submissions(part, all);
  }
  return all;
}

std::vector<std::string> submit_sweep(const SweepGraph& graph, const SubmitOptions& options) {
  if (!is_in_path("sbatch"))
    throw UsageError("sbatch is not there: submit from a login node of the cluster, or use `mmkd sweep run` here");
  write_tasks(graph);
  std::error_code ignored;
  fs::remove(SweepFolder(graph.sweep).root / "cancelled", ignored);
  return Submitter(graph, options).run();
}

SlurmJobs slurm_jobs(const SweepGraph& graph) {
  SlurmJobs jobs;
  const auto ids = read_job_ids(SweepFolder(graph.sweep));
  if (ids.empty() || !is_in_path("squeue")) return jobs;
  const auto queued = queue();
  std::vector<std::string> gone;
  for (const auto& [node, id] : ids) {
    const auto found = queued.find(id);
    if (found == queued.end()) gone.push_back(id);
    jobs[node] = found == queued.end() ? SlurmJob{id, "", ""} : SlurmJob{id, found->second.first, found->second.second};
  }
  const auto how = ended(gone);
  for (auto& [node, job] : jobs) {
    const auto found = how.find(job.id);
    if (job.state.empty() && found != how.end()) job.state = found->second;
  }
  return jobs;
}

std::size_t cancel_jobs(const SweepGraph& graph) {
  std::vector<std::string> command{"scancel"};
  const auto queued = slurm_jobs(graph);
  for (const auto& [node, job] : queued) {
    if (is_in_queue(job)) command.push_back(job.id);
  }
  if (command.size() == 1) return 0;
  write_file_atomic(SweepFolder(graph.sweep).root / "cancelled", "");  // its jobs do not requeue themselves
  output_of(command);
  return command.size() - 1;
}

}  // namespace mmkd
