#pragma once
#include <functional>
#include <nlohmann/json.hpp>
#include <string>

#include "keys.h"
#include "yaml_document.h"

// From a node of the document to a member of the Config and back.
namespace mmkd::config_detail {

/// Receives what is wrong: where, the key path (of an element, for lists) and the message.
using Report = std::function<void(const Place& place, const std::string& path, const std::string& message)>;

/// Sets the key's member from `node`, or reports why not and leaves it as it was.
void assign(const Key& key, const Node& node, const Report& report);

/// `an integer from 1 to 8`, `one of "a", "b"`: what a value of the key must be.
std::string expected(const Key& key);

/// The key has no value (only keys with `unset` can be without).
bool is_unset(const Key& key);
/// Null if there is no value.
nlohmann::json value_json(const Key& key);
/// As it would be written behind `key: `, on one line; `null` if there is no value.
std::string value_yaml(const Key& key);

}  // namespace mmkd::config_detail
