#include "mmkd/sweep/show.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

namespace mmkd {
namespace {

std::string duration(double seconds) {
  const auto s = std::llround(seconds);
  return s >= 3600 ? fmt::format("{} h {:02} min", s / 3600, s / 60 % 60)
         : s >= 60 ? fmt::format("{} min {:02} s", s / 60, s % 60)
                   : fmt::format("{:.1f} s", seconds);
}

std::size_t id_width(const SweepGraph& graph) {
  std::size_t width = 5;
  for (const auto& node : graph.nodes) width = std::max(width, node.id.size());
  return width;
}

std::string runs_text(const SweepGraph& graph, const SweepNode& node) {
  constexpr std::size_t kNamed = 3;
  std::string text;
  for (std::size_t i = 0; i < std::min(kNamed, node.runs.size()); ++i)
    text += (i > 0 ? ", " : "") + graph.sweep.runs[node.runs[i]].name;
  if (node.runs.size() > kNamed) text += fmt::format(", … ({})", node.runs.size());
  return text;
}

/// What the sharing saves: stages that single runs would build each for itself, and their time as far as it is known.
struct Saving {
  std::size_t separate = 0, shared = 0;  ///< stages that separate runs would build; that the sweep builds
  double seconds = 0;
  std::size_t without_time = 0;  ///< shared stages of which no time is known, nor of another of their kind
};

Saving saving(const SweepGraph& graph, const std::vector<NodeStatus>& status) {
  std::map<std::string, std::pair<double, int>> known;  // stage -> sum, count
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    if (status[i].seconds <= 0) continue;
    auto& [sum, count] = known[graph.nodes[i].stage];
    sum += status[i].seconds;
    ++count;
  }
  Saving result;
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    const auto& node = graph.nodes[i];
    result.separate += node.runs.size();
    ++result.shared;
    if (node.runs.size() < 2) continue;
    const auto found = known.find(node.stage);
    if (status[i].seconds <= 0 && found == known.end()) {
      ++result.without_time;
      continue;
    }
    const double one = status[i].seconds > 0 ? status[i].seconds : found->second.first / found->second.second;
    result.seconds += one * static_cast<double>(node.runs.size() - 1);
  }
  return result;
}

std::string counts_text(const std::vector<NodeStatus>& status) {
  std::string text;
  for (const auto state : {NodeState::done, NodeState::running, NodeState::queued, NodeState::waiting,
                           NodeState::interrupted, NodeState::failed, NodeState::blocked}) {
    const auto count = std::count_if(status.begin(), status.end(), [&](const auto& s) { return s.state == state; });
    if (count > 0) text += fmt::format("{}{} {}", text.empty() ? "" : ", ", count, name(state));
  }
  return text;
}

std::string heading(const SweepGraph& graph) {
  return fmt::format("{}: {} runs, {} stages", graph.sweep.name, graph.sweep.runs.size(), graph.nodes.size());
}

}  // namespace

std::string plan_text(const SweepGraph& graph, const std::vector<NodeStatus>& status) {
  const auto width = id_width(graph);
  std::string text = heading(graph) + "\n\n";
  text += fmt::format("{:<{}}  {:<6}  {:>4}  {}\n", "stage", width, "", "runs", "needed by");
  std::size_t there = 0;
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    const auto& node = graph.nodes[i];
    const bool done = status[i].state == NodeState::done;
    there += done ? 1 : 0;
    text += fmt::format("{:<{}}  {:<6}  {:>4}  {}\n", node.id, width, done ? "reuse" : "build", node.runs.size(),
                        runs_text(graph, node));
  }
  const auto saved = saving(graph, status);
  text += fmt::format("\n{} stages are there, {} are to be built. Run by run it would be {} stages; sharing saves {}",
                      there, graph.nodes.size() - there, saved.separate, saved.separate - saved.shared);
  if (saved.seconds > 0) text += fmt::format(", about {} as measured so far", duration(saved.seconds));
  if (saved.without_time > 0 && saved.separate > saved.shared)
    text += fmt::format("{} (no time is known yet of {} shared stages)", saved.seconds > 0 ? "" : " builds",
                        saved.without_time);
  return text + ".\n";
}

std::string status_text(const SweepGraph& graph, const std::vector<NodeStatus>& status, bool all) {
  std::string text = fmt::format("{}: {}\n\n", heading(graph), counts_text(status));
  std::size_t run_width = 3;
  for (const auto& run : graph.sweep.runs) run_width = std::max(run_width, run.name.size());
  for (std::size_t run = 0; run < graph.sweep.runs.size(); ++run) {
    std::size_t done = 0, total = 0;
    const NodeStatus* end = nullptr;
    for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
      const auto& runs = graph.nodes[i].runs;
      if (std::find(runs.begin(), runs.end(), run) == runs.end()) continue;
      ++total;
      done += status[i].state == NodeState::done ? 1 : 0;
      if (graph.nodes[i].stage == "test") end = &status[i];
    }
    text += fmt::format("{:<{}}  {:>2}/{} stages  {}{}\n", graph.sweep.runs[run].name, run_width, done, total,
                        name(end->state), end->detail.empty() ? "" : ": " + end->detail);
  }
  const auto width = id_width(graph);
  std::string nodes;
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    const auto& node = graph.nodes[i];
    const auto& one = status[i];
    const bool quiet =
        one.state == NodeState::done || one.state == NodeState::waiting || one.state == NodeState::blocked;
    if (!all && (quiet || node.stage == "test")) continue;
    nodes += fmt::format("{:<{}}  {:<11}  {}\n", node.id, width, name(one.state),
                         !one.detail.empty() ? one.detail
                         : one.seconds > 0   ? duration(one.seconds)
                                             : "");
  }
  return nodes.empty() ? text : text + "\n" + nodes;
}

}  // namespace mmkd
