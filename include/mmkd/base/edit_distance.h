#pragma once
#include <cstddef>
#include <string_view>

namespace mmkd {

/// Insertions, deletions, substitutions and swaps of neighbours that turn `a` into `b` (optimal string alignment).
/// Time is the product of the lengths.
std::size_t edit_distance(std::string_view a, std::string_view b);

}  // namespace mmkd
