#pragma once
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "mmkd/config/config.h"
#include "mmkd/config/load.h"

namespace mmkd {

/// The whole configuration as YAML, every key with its value; parse_config() of it gives the same configuration.
std::string to_yaml(const Config& config);

/// `mmkd config show`: to_yaml() with the source of each value as a comment, followed, as comments, by what the
/// configuration comes to (constants of the loss, tasks, folders) and the notes.
std::string config_show(const LoadedConfig& loaded);

/// The whole configuration, nested like the YAML; a value that is not set is null.
nlohmann::json to_json(const Config& config);
/// [{"kl": {"weight": 1, "T": 4}}, …]: every term with all of its constants.
nlohmann::json to_json(const std::vector<LossTerm>& terms);

/// The part of to_json(config) whose key paths are, or lie below, one of `keys` ("teacher", "training.seed"): what a
/// stage key is made of. Throws std::invalid_argument for a path that names nothing, so that a misspelling cannot drop
/// a value from a stage key.
nlohmann::json subset(const Config& config, std::initializer_list<std::string_view> keys);

/// The text of docs/configuration.md: a table per section with key, type, default and meaning.
std::string configuration_reference();

}  // namespace mmkd
