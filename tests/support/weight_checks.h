#pragma once
#include <gtest/gtest.h>
#include <torch/nn/module.h>

#include <set>
#include <span>
#include <string>

#include "mmkd/nn/weight_entry.h"

namespace mmkd {

/// Every value of every parameter is in one entry, and only in one; names are unique.
inline void expect_covers_parameters_once(const torch::nn::Module& module, std::span<const nn::WeightEntry> entries) {
  const at::NoGradGuard no_grad;
  std::set<std::string> names;
  for (const auto& parameter : module.parameters()) parameter.detach().zero_();
  for (const auto& entry : entries) {
    EXPECT_TRUE(names.insert(entry.name).second) << entry.name << " twice";
    at::Tensor view = entry.view;
    view.add_(1);
  }
  for (const auto& parameter : module.named_parameters()) {
    EXPECT_TRUE(parameter.value().eq(1).all().item<bool>()) << parameter.key();
  }
}

}  // namespace mmkd
