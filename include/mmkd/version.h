#pragma once

namespace mmkd {

inline constexpr const char* kVersion = "0.1.0";

}  // namespace mmkd
