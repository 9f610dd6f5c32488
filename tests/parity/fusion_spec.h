#pragma once
#include <array>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>

#include "mmkd/config/names.h"
#include "mmkd/fusion/fusion.h"

namespace mmkd::parity {

/// From a case's config. Throws for a type that is none of the known.
inline FusionSpec fusion_spec(const nlohmann::json& config) {
  constexpr std::array kTypes{FusionType::simple,
                              FusionType::concat_mlp,
                              FusionType::cross_attention,
                              FusionType::gated,
                              FusionType::film,
                              FusionType::modality_dropout,
                              FusionType::transformer_concat,
                              FusionType::energy_aware_adaptive,
                              FusionType::shomr};
  FusionSpec spec;
  const auto found =
      std::find_if(kTypes.begin(), kTypes.end(), [&](FusionType type) { return to_string(type) == config.at("type"); });
  if (found == kTypes.end()) throw std::runtime_error("fusion type " + config.at("type").dump() + " is not known");
  spec.type = *found;
  spec.dim = config.at("dim");
  spec.heads = config.value("heads", std::int64_t{1});
  spec.layers = config.value("layers", std::int64_t{1});
  spec.hidden_mult = config.value("hidden_mult", std::int64_t{2});
  return spec;
}

}  // namespace mmkd::parity
