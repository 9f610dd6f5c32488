#pragma once
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>

#include "mmkd/config/config.h"
#include "values.h"

// loss.terms: [{kl: {weight: 1, T: 4}}, {ce: 0.5}, …]
namespace mmkd::config_detail {

/// Names of the constants that a term has beside its weight.
std::span<const std::string_view> constants_of(LossTermType type);

/// One entry of the list; reports its own problems.
LossTerm loss_term(const Node& item, const std::string& path, const Report& report);

/// {"kl": {"weight": 1, "T": 4}}: the term's name with all of its constants.
nlohmann::json term_json(const LossTerm& term);

}  // namespace mmkd::config_detail
