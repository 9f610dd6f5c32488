#pragma once
#include <gtest/gtest.h>

#include <string>

namespace mmkd {

inline void expect_contains(const std::string& text, const std::string& part) {
  EXPECT_NE(text.find(part), std::string::npos) << "expected '" << part << "' in: " << text;
}

}  // namespace mmkd
