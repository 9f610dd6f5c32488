#pragma once
#include <ATen/ATen.h>

namespace mmkd {

/// The largest difference of elements, over the largest value of `b`.
inline double largest_difference(const at::Tensor& a, const at::Tensor& b) {
  return (a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>() /
         b.abs().max().to(at::kDouble).item<double>();
}

}  // namespace mmkd
