#include "suggest.h"

#include <algorithm>
#include <vector>

#include "mmkd/base/edit_distance.h"
#include "mmkd/base/error.h"

namespace mmkd::config_detail {
namespace {
std::string lower(std::string_view text) {
  std::string result(text);
  for (char& c : result)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return result;
}
}  // namespace

std::string_view closest(std::string_view found, std::span<const std::string_view> candidates) {
  constexpr std::size_t kLongest = 64;  // nothing longer is a misspelt key, and the distance is quadratic
  if (found.size() > kLongest) return {};
  std::string_view best;
  std::size_t best_distance = std::max<std::size_t>(1, found.size() / 3) + 1;
  for (const auto candidate : candidates) {
    const std::size_t distance = edit_distance(lower(found), lower(candidate));
    if (distance < best_distance && distance < candidate.size()) {
      best = candidate;
      best_distance = distance;
    }
  }
  return best;
}

std::string did_you_mean(std::string_view found, std::span<const std::string_view> candidates) {
  constexpr std::size_t kShortest = 2, kMost = 3;
  std::vector<std::string> likely;
  if (const auto candidate = closest(found, candidates); !candidate.empty())
    likely.emplace_back(candidate);
  else if (found.size() >= kShortest)
    for (const auto name : candidates)
      if (name.find(found) != std::string_view::npos) likely.emplace_back(name);
  return likely.empty() || likely.size() > kMost ? "" : fmt::format("; did you mean {}?", either(likely));
}

std::string either(const std::vector<std::string>& names) {
  std::string text;
  for (const auto& name : names) text += fmt::format("{}\"{}\"", text.empty() ? "" : " or ", name);
  return text;
}

}  // namespace mmkd::config_detail
