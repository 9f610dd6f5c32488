#include "gradient_norm.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "mmkd/base/error.h"
#include "mmkd/kernels/adamw.h"

namespace mmkd {
namespace {

constexpr std::int64_t kBlock = HostShares::kBlock;  // elements of one partial sum
constexpr std::int64_t kNone = -1;

struct Block {
  std::size_t parameter;
  std::int64_t begin, count;       // elements
  std::int64_t of_shares = kNone;  // its number there, where it is one of those that ranks share
};

/// Adds the blocks of a gradient, without those that hold none of `rows`.
void add_blocks(std::size_t parameter, const at::Tensor& gradient, const std::optional<at::Tensor>& rows,
                std::vector<Block>& blocks) {
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
      blocks.push_back({parameter, b * kBlock, std::min(kBlock, size - b * kBlock)});
  }
}

/// Numbers the blocks from `first` on as those that ranks share.
void number(std::vector<Block>& blocks, std::size_t first, std::int64_t next) {
  for (std::size_t b = first; b < blocks.size(); ++b) blocks[b].of_shares = next++;
}

}  // namespace

at::Tensor gradient_norm(const std::vector<at::Tensor>& parameters, const AdamW::RowsOf& rows_of,
                         const HostShares* shares) {
  std::vector<at::Tensor> gradients;
  gradients.reserve(parameters.size());
  for (const auto& parameter : parameters) gradients.push_back(parameter.grad());
  if (!gradients.front().is_cpu()) return at::linalg_vector_norm(at::stack(at::_foreach_norm(gradients)), 2);
  std::vector<Block> blocks;
  for (std::size_t i = 0; i < gradients.size(); ++i) {
    gradients[i] = gradients[i].contiguous();
    const std::size_t first = blocks.size();
    add_blocks(i, gradients[i], rows_of ? rows_of(parameters[i]) : std::nullopt, blocks);
    if (shares == nullptr || shares->parameters()[i].is_table) continue;
    if (gradients[i].const_data_ptr() != shares->parameters()[i].gradient.const_data_ptr())
      throw Error("optimizer: gradient {} of {} has left the memory that the ranks share", i, gradients.size());
    number(blocks, first, shares->parameters()[i].first_block);
  }
  std::vector<std::size_t> mine;
  for (std::size_t b = 0; b < blocks.size(); ++b)
    if (blocks[b].of_shares == kNone || shares->owns(blocks[b].of_shares)) mine.push_back(b);
  std::vector<double> sums(blocks.size());
  if (shares != nullptr) shares->meet();  // gradients are complete
  constexpr std::int64_t kGrain = 16;
  at::parallel_for(0, std::ssize(mine), kGrain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t m = begin; m < end; ++m) {
      const std::size_t b = mine[static_cast<std::size_t>(m)];
      const auto& block = blocks[b];
      if (block.of_shares != kNone) shares->average(block.parameter, block.begin, block.count);
      sums[b] = kernels::sum_of_squares(gradients[block.parameter].const_data_ptr<float>() + block.begin, block.count);
      if (block.of_shares != kNone) shares->sums()[block.of_shares] = sums[b];
    }
  });
  if (shares != nullptr) shares->meet();
  double total = 0;
  for (std::size_t b = 0; b < blocks.size(); ++b)
    total += blocks[b].of_shares == kNone ? sums[b] : shares->sums()[blocks[b].of_shares];
  return at::scalar_tensor(std::sqrt(total), gradients.front().options());
}

}  // namespace mmkd
