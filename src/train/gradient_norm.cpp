#include "gradient_norm.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "mmkd/kernels/adamw.h"

namespace mmkd {
namespace {

constexpr std::int64_t kBlock = 4096;  // elements of one partial sum

struct Block {
  const float* values;
  std::int64_t count;
};

/// Adds the blocks of a gradient, without those that hold none of `rows`.
void add_blocks(const at::Tensor& gradient, const std::optional<at::Tensor>& rows, std::vector<Block>& blocks) {
  const auto* values = gradient.const_data_ptr<float>();
  const std::int64_t size = gradient.numel(), count = (size + kBlock - 1) / kBlock;
  std::vector<bool> wanted(static_cast<std::size_t>(count), !rows);
  if (rows) {
    const std::int64_t width = size / std::max<std::int64_t>(gradient.size(0), 1);
    const auto* row = rows->const_data_ptr<std::int64_t>();
    for (std::int64_t i = 0; i < rows->numel() && width > 0; ++i) {
      const std::int64_t first = row[i] * width / kBlock, last = (row[i] * width + width - 1) / kBlock;
      std::fill(wanted.begin() + first, wanted.begin() + last + 1, true);
    }
  }
  for (std::int64_t b = 0; b < count; ++b) {
    if (wanted[static_cast<std::size_t>(b)])
      blocks.push_back({values + b * kBlock, std::min(kBlock, size - b * kBlock)});
  }
}

}  // namespace

at::Tensor gradient_norm(const std::vector<at::Tensor>& parameters, const AdamW::RowsOf& rows_of) {
  std::vector<at::Tensor> gradients;
  for (const auto& parameter : parameters) gradients.push_back(parameter.grad());
  if (!gradients.front().is_cpu()) return at::linalg_vector_norm(at::stack(at::_foreach_norm(gradients)), 2);
  std::vector<Block> blocks;
  for (std::size_t i = 0; i < gradients.size(); ++i) {
    gradients[i] = gradients[i].contiguous();
    add_blocks(gradients[i], rows_of ? rows_of(parameters[i]) : std::nullopt, blocks);
  }
  std::vector<double> sums(blocks.size());
  constexpr std::int64_t kGrain = 16;
  at::parallel_for(0, std::ssize(blocks), kGrain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t b = begin; b < end; ++b) {
      const auto& block = blocks[static_cast<std::size_t>(b)];
      sums[static_cast<std::size_t>(b)] = kernels::sum_of_squares(block.values, block.count);
    }
  });
  double total = 0;
  for (const double sum : sums) total += sum;
  return at::scalar_tensor(std::sqrt(total), gradients.front().options());
}

}  // namespace mmkd
