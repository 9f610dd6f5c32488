#pragma once
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/autograd.h>

#include <functional>
#include <string>

namespace mmkd {

/// Compares the gradient of f() with respect to some elements of `x` (a float64 leaf that f uses) with central
/// differences.
inline void expect_gradient_matches_differences(const at::Tensor& x, const std::function<at::Tensor()>& f,
                                                const std::string& what, std::int64_t elements = 5) {
  if (x.grad().defined()) x.mutable_grad() = at::Tensor();
  f().backward();
  ASSERT_TRUE(x.grad().defined()) << what;
  const at::NoGradGuard no_grad;
  const at::Tensor gradient = x.grad().flatten();
  at::Tensor values = x.detach().view({-1});
  constexpr double kStep = 1e-5;
  for (std::int64_t k = 0; k < std::min(elements, values.numel()); ++k) {
    const std::int64_t i = k * values.numel() / std::min(elements, values.numel());
    const double original = values[i].item<double>();
    values[i] = original + kStep;
    const double above = f().item<double>();
    values[i] = original - kStep;
    const double below = f().item<double>();
    values[i] = original;
    const double expected = (above - below) / (2 * kStep);
    EXPECT_NEAR(gradient[i].item<double>(), expected, 1e-7 + 1e-5 * std::abs(expected)) << what << "[" << i << "]";
  }
}

}  // namespace mmkd
