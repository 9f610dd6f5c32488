#pragma once
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mmkd::config_detail {

/// The candidate that `found` is most likely a misspelling of, case ignored; "" if none is near enough.
std::string_view closest(std::string_view found, std::span<const std::string_view> candidates);

/// `; did you mean "x"?` with the closest candidate, else with those that contain `found`, or "".
std::string did_you_mean(std::string_view found, std::span<const std::string_view> candidates);

/// `"a" or "b"`.
std::string either(const std::vector<std::string>& names);

}  // namespace mmkd::config_detail
