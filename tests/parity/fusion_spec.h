#pragma once
#include <nlohmann/json.hpp>
#include <optional>

#include "mmkd/fusion/fusion.h"

namespace mmkd::parity {

/// From a case's config; nothing for a type that is not built.
inline std::optional<FusionSpec> fusion_spec(const nlohmann::json& config) {
  FusionSpec spec;
  const std::string type = config.at("type");
  if (type == "simple") {
    spec.type = FusionType::simple;
  } else if (type == "concat_mlp") {
    spec.type = FusionType::concat_mlp;
  } else if (type == "gated") {
    spec.type = FusionType::gated;
  } else {
    return std::nullopt;
  }
  spec.dim = config.at("dim");
  spec.heads = config.value("heads", std::int64_t{1});
  spec.layers = config.value("layers", std::int64_t{1});
  spec.hidden_mult = config.value("hidden_mult", std::int64_t{2});
  return spec;
}

}  // namespace mmkd::parity
