#include <algorithm>
#include <cmath>
#include <numbers>

#include "resample.h"

namespace mmkd::resample {
namespace {

double box(double x) { return x > -0.5 && x <= 0.5 ? 1.0 : 0.0; }

double triangle(double x) { return std::max(1.0 - std::abs(x), 0.0); }

double hamming(double x) {
  x = std::abs(x);
  if (x == 0.0) return 1.0;
  if (x >= 1.0) return 0.0;
  x *= std::numbers::pi;
  return std::sin(x) / x * (0.54F + 0.46F * std::cos(x));  // Pillow's constants have single precision
}

/// R. Keys, "Cubic convolution interpolation for digital image processing", 1981, with a = -0.5.
double cubic(double x) {
  constexpr double a = -0.5;
  x = std::abs(x);
  if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0;
  if (x < 2.0) return (((x - 5.0) * x + 8.0) * x - 4.0) * a;
  return 0.0;
}

double sinc(double x) {
  if (x == 0.0) return 1.0;
  x *= std::numbers::pi;
  return std::sin(x) / x;
}

double lanczos(double x) { return x >= -3.0 && x < 3.0 ? sinc(x) * sinc(x / 3.0) : 0.0; }

struct Kernel {
  double (*value)(double);
  double support;  // half its width, in pixels of the coarser picture
};

Kernel kernel(Resample filter) {
  switch (filter) {
    case Resample::lanczos:
      return {lanczos, 3.0};
    case Resample::bilinear:
      return {triangle, 1.0};
    case Resample::bicubic:
      return {cubic, 2.0};
    case Resample::hamming:
      return {hamming, 1.0};
    case Resample::nearest:  // has no coefficients
    case Resample::box:
      break;
  }
  return {box, 0.5};
}

std::int32_t to_fixed(double weight) {
  return static_cast<std::int32_t>(weight * (1 << precision_bits) + (weight < 0 ? -0.5 : 0.5));
}

}  // namespace

Range Coefficients::span() const {
  Range all = windows.front();
  for (const auto& window : windows) all = {std::min(all.begin, window.begin), std::max(all.end, window.end)};
  return all;
}

// Every operation is in Pillow's order and precision: the integers must come out the same.
Coefficients coefficients(std::int64_t in, std::int64_t out, Range outputs, Resample filter) {
  const Kernel k = kernel(filter);
  const double scale = static_cast<double>(in) / static_cast<double>(out);
  const double stretch = std::max(scale, 1.0);  // antialiasing: the kernel grows when the picture shrinks
  const double support = k.support * stretch;
  const double per_pixel = 1.0 / stretch;

  Coefficients result;
  result.taps = static_cast<std::int64_t>(std::ceil(support)) * 2 + 1;
  result.windows.reserve(static_cast<std::size_t>(outputs.size()));
  result.weights.resize(static_cast<std::size_t>(outputs.size() * result.taps));
  std::vector<double> weights(static_cast<std::size_t>(result.taps));
  std::int32_t* fixed = result.weights.data();
  for (auto i = outputs.begin; i < outputs.end; ++i, fixed += result.taps) {
    const double center = (static_cast<double>(i) + 0.5) * scale;
    const auto first = static_cast<std::int64_t>(std::trunc(center - support + 0.5));
    const auto end = static_cast<std::int64_t>(std::trunc(center + support + 0.5));
    const Range window{std::max<std::int64_t>(first, 0), std::min(end, in)};
    double total = 0.0;
    for (std::int64_t x = 0; x < window.size(); ++x) {
      const double weight = k.value((static_cast<double>(x + window.begin) - center + 0.5) * per_pixel);
      weights[static_cast<std::size_t>(x)] = weight;
      total += weight;
    }
    for (std::int64_t x = 0; x < window.size(); ++x) {
      const double weight = weights[static_cast<std::size_t>(x)];
      fixed[x] = to_fixed(total != 0.0 ? weight / total : weight);
    }
    result.windows.push_back(window);
  }
  return result;
}

}  // namespace mmkd::resample
