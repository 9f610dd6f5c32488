#pragma once
#include <filesystem>

#include <nlohmann/json.hpp>

namespace mmkd {

/// The JSON object in a file that may be missing, damaged, or being replaced at this moment: empty then. For state that
/// is only a hint; whatever results depend on has readers that say what is wrong.
nlohmann::json json_object_or_empty(const std::filesystem::path& file);

}  // namespace mmkd
