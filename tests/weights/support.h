#pragma once
#include <ATen/ATen.h>

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "mmkd/base/error.h"
#include "mmkd/nn/weight_entry.h"
#include "mmkd/weights/tensors.h"

namespace mmkd::test {

/// Entries over fresh zeros.
inline std::vector<nn::WeightEntry> zero_entries(
    const std::vector<std::pair<std::string, std::vector<std::int64_t>>>& shapes) {
  std::vector<nn::WeightEntry> entries;
  for (const auto& [name, shape] : shapes) entries.push_back({name, at::zeros(shape)});
  return entries;
}

/// `first`, `first` + 1, … in the given shape.
inline at::Tensor counting(const std::vector<std::int64_t>& shape, double first = 0) {
  std::int64_t count = 1;
  for (const auto dimension : shape) count *= dimension;
  return (at::arange(count, at::kDouble) + first).to(at::kFloat).view(shape);
}

/// What the Error that `act` must throw says; "" if it throws none.
inline std::string message_of(const std::function<void()>& act) {
  try {
    act();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

inline bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace mmkd::test
