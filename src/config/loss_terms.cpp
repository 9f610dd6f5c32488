#include "loss_terms.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <optional>

#include "enum_names.h"
#include "mmkd/base/error.h"
#include "mmkd/config/names.h"
#include "suggest.h"

namespace mmkd::config_detail {
namespace {

constexpr std::string_view kBandwidth = "bandwidth";

double* member(LossTerm& term, std::string_view name) {
  if (name == "weight") return &term.weight;
  if (name == "T") return &term.T;
  if (name == "tau") return &term.tau;
  if (name == "alpha") return &term.alpha;
  if (name == "beta") return &term.beta;
  if (name == "gamma") return &term.gamma;
  return nullptr;
}

/// Temperatures divide, weights may be 0.
bool must_be_positive(std::string_view name) { return name == "T" || name == "tau"; }

std::optional<double> number(const Node& node) {
  double value = 0;
  const auto& text = node.text;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool whole = node.kind == Node::Kind::scalar && error == std::errc() && end == text.data() + text.size();
  return whole && std::isfinite(value) ? std::optional(value) : std::nullopt;
}

void set_number(LossTerm& term, std::string_view name, const Node& node, const std::string& path,
                const Report& report) {
  const auto value = number(node);
  const bool positive = must_be_positive(name);
  if (value && (positive ? *value > 0 : *value >= 0)) {
    *member(term, name) = *value;
    return;
  }
  report(node.place, path,
         fmt::format("expected a number {}, found {}", positive ? "above 0" : "of at least 0", node.describe()));
}

void set_bandwidth(LossTerm& term, const Node& node, const std::string& path, const Report& report) {
  const auto& names = EnumNames<MmdBandwidth>::names;
  const auto found = std::find(names.begin(), names.end(), node.text);
  if (node.kind == Node::Kind::scalar && found != names.end()) {
    term.bandwidth = static_cast<MmdBandwidth>(found - names.begin());
    return;
  }
  report(node.place, path, fmt::format("expected one of \"median\", \"fixed\", found {}", node.describe()));
}

}  // namespace

std::span<const std::string_view> constants_of(LossTermType type) {
  static constexpr std::array<std::string_view, 1> kT{"T"};
  static constexpr std::array<std::string_view, 1> kTau{"tau"};
  static constexpr std::array<std::string_view, 1> kMmd{kBandwidth};
  static constexpr std::array<std::string_view, 3> kDkd{"T", "alpha", "beta"};
  static constexpr std::array<std::string_view, 3> kDist{"T", "beta", "gamma"};
  switch (type) {
    case LossTermType::kl:
      return kT;
    case LossTermType::crd:
      return kTau;
    case LossTermType::mmd:
      return kMmd;
    case LossTermType::dkd:
      return kDkd;
    case LossTermType::dist:
      return kDist;
    case LossTermType::ce:
    case LossTermType::mse:
    case LossTermType::rkd_distance:
    case LossTermType::rkd_angle:
      return {};
  }
  return {};
}

LossTerm loss_term(const Node& item, const std::string& path, const Report& report) {
  const auto& names = EnumNames<LossTermType>::names;
  if (item.kind != Node::Kind::map || item.entries.size() != 1) {
    report(item.place, path, fmt::format("expected one term, like {{kl: 1}}, found {}", item.describe()));
    return {};
  }
  const auto& [name, place, value] = item.entries.front();
  const auto found = std::find(names.begin(), names.end(), name);
  if (found == names.end()) {
    const auto hint = did_you_mean(name, names);
    std::string known;
    for (const auto one : names) known += fmt::format("{}{}", known.empty() ? "" : ", ", one);
    report(place, child_path(path, name), "unknown term" + (hint.empty() ? "; expected one of " + known : hint));
    return {};
  }
  LossTerm term = default_term(static_cast<LossTermType>(found - names.begin()));
  const std::string at = child_path(path, name);
  if (value.kind == Node::Kind::scalar) {
    set_number(term, "weight", value, at, report);
    return term;
  }
  if (value.kind == Node::Kind::null) return term;
  if (value.kind != Node::Kind::map) {
    report(value.place, at, fmt::format("expected a weight or a map of constants, found {}", value.describe()));
    return term;
  }
  std::vector<std::string_view> allowed{"weight"};
  for (const auto constant : constants_of(term.type)) allowed.push_back(constant);
  for (const auto& [constant, constant_place, constant_value] : value.entries) {
    const std::string constant_path = child_path(at, constant);
    if (std::find(allowed.begin(), allowed.end(), constant) == allowed.end()) {
      std::string known;
      for (const auto one : allowed) known += fmt::format("{}{}", known.empty() ? "" : ", ", one);
      report(constant_place, constant_path, "unknown constant; expected one of " + known);
    } else if (constant == kBandwidth) {
      set_bandwidth(term, constant_value, constant_path, report);
    } else {
      set_number(term, constant, constant_value, constant_path, report);
    }
  }
  return term;
}

nlohmann::json term_json(const LossTerm& term) {
  LossTerm copy = term;
  nlohmann::json constants{{"weight", term.weight}};
  for (const auto name : constants_of(term.type)) {
    if (name == kBandwidth)
      constants[std::string(name)] = to_string(term.bandwidth);
    else
      constants[std::string(name)] = *member(copy, name);
  }
  return {{std::string(to_string(term.type)), constants}};
}

}  // namespace mmkd::config_detail
