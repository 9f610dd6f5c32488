#include "problems.h"

#include <algorithm>
#include <tuple>

#include "mmkd/base/error.h"

namespace mmkd::config_detail {

Findings::Findings(std::string file, std::vector<std::string> overrides)
    : file_(std::move(file)), overrides_(std::move(overrides)) {}

void Findings::add(const Place& place, const std::string& path, const std::string& message) {
  problems.push_back({place, path.empty() ? message : path + ": " + message});
  wrong_.insert(path.substr(0, path.find('[')));
}

void Findings::conflict(const std::vector<std::string>& paths, const std::string& message) {
  if (any_wrong(paths)) return;
  const auto found = std::find_if(paths.begin(), paths.end(), [&](const auto& path) { return given(path); });
  add_near(found != paths.end() ? *found : paths.front(), message);
}

void Findings::missing(const std::string& path, const std::string& message, const std::vector<std::string>& depends) {
  if (!any_wrong({path}) && !any_wrong(depends)) add_near(path, message);
}

void Findings::add_near(const std::string& path, const std::string& message) {
  std::string at = path;
  while (!at.empty() && !given(at)) at = parent_path(at);
  problems.push_back({at.empty() ? Place{} : places.at(at), path + ": " + message});
}

bool Findings::any_wrong(const std::vector<std::string>& paths) const {
  return std::any_of(paths.begin(), paths.end(), [&](const auto& path) { return wrong(path); });
}

bool Findings::wrong(std::string path) const {
  for (; !path.empty(); path = parent_path(path))
    if (wrong_.count(path) != 0) return true;
  return false;
}

std::string Findings::location(const Place& place) const {
  if (place.origin > 0) return "--set " + overrides_.at(static_cast<std::size_t>(place.origin) - 1);
  return place.line > 0 ? fmt::format("{}:{}:{}", file_, place.line, place.column) : file_;
}

std::string Findings::source(const std::string& path) const {
  const auto found = places.find(path);
  if (found == places.end()) return "default";
  return found->second.origin > 0 ? "--set" : fmt::format("{}:{}", file_, found->second.line);
}

std::vector<std::string> Findings::lines() const {
  constexpr std::size_t kShown = 100;
  std::vector<const Problem*> order;
  for (const auto& problem : problems) order.push_back(&problem);
  const auto rank = [](const Problem* p) { return std::tuple(p->place.origin, p->place.line, p->place.column); };
  std::stable_sort(order.begin(), order.end(), [&](auto* a, auto* b) { return rank(a) < rank(b); });
  std::vector<std::string> result;
  for (const Problem* problem : order) {
    if (result.size() == kShown) {
      result.push_back(fmt::format("… and {} more", order.size() - kShown));
      break;
    }
    result.push_back(location(problem->place) + ": " + problem->text);
  }
  return result;
}

}  // namespace mmkd::config_detail
