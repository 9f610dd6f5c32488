#include "host_shares.h"

#include <algorithm>

#include "mmkd/base/error.h"
#include "mmkd/comm/ordered_reduce.h"

namespace mmkd {
namespace {

constexpr std::int64_t kRows = 64;  // of a table, that belong together

bool is_one_of(const std::vector<at::Tensor>& tensors, const at::Tensor& tensor) {
  return std::any_of(tensors.begin(), tensors.end(), [&](const at::Tensor& other) { return other.is_same(tensor); });
}

std::int64_t blocks_of(const at::Tensor& parameter) {
  return (parameter.numel() + HostShares::kBlock - 1) / HostShares::kBlock;
}

bool has_copy(const at::Tensor& parameter) { return parameter.dim() == 2; }

SharedTensors::Sizes sizes_of(const std::vector<at::Tensor>& parameters, const std::vector<at::Tensor>& tables,
                              bool copies, int ranks) {
  SharedTensors::Sizes sizes;
  std::int64_t blocks = 0;
  for (const auto& parameter : parameters) {
    const std::size_t bytes = SharedTensors::bytes_of(parameter.sizes(), at::kFloat);
    if (is_one_of(tables, parameter)) {
      sizes.allocated += bytes;
      sizes.untouched += 2 * bytes;
      continue;
    }
    sizes.allocated += bytes * (3 + static_cast<std::size_t>(ranks));
    if (copies && has_copy(parameter)) sizes.allocated += SharedTensors::bytes_of(parameter.sizes(), at::kBFloat16);
    blocks += blocks_of(parameter);
  }
  sizes.allocated += SharedTensors::bytes_of({blocks}, at::kDouble);
  return sizes;
}

/// Rows of a table in turn.
std::vector<HostShares::Range> rows_in_turn(const at::Tensor& table, int rank, int ranks) {
  std::vector<HostShares::Range> mine;
  const std::int64_t rows = table.size(0), width = table.size(1);
  for (std::int64_t row = rank * kRows; row < rows; row += ranks * kRows)
    mine.push_back({row * width, std::min(row + kRows, rows) * width});
  return mine;
}

}  // namespace

std::shared_ptr<HostShares> HostShares::create(const World& world, const std::vector<at::Tensor>& parameters,
                                               const std::vector<at::Tensor>& tables, bool copies,
                                               std::string& why_not) {
  if (world.size() == 1) return nullptr;
  require_same_shapes(world, parameters);
  const auto memory = SharedTensors::create(world, sizes_of(parameters, tables, copies, world.size()), why_not);
  if (!memory) return nullptr;
  return std::shared_ptr<HostShares>(new HostShares(world, parameters, tables, copies, *memory));
}

HostShares::HostShares(const World& world, const std::vector<at::Tensor>& parameters,
                       const std::vector<at::Tensor>& tables, bool copies, SharedTensors& memory)
    : world_(world), gradients_(static_cast<std::size_t>(world.size())) {
  const int rank = world.rank(), ranks = world.size();
  std::int64_t blocks = 0;
  for (const auto& like : parameters) {
    Parameter parameter;
    parameter.is_table = is_one_of(tables, like);
    parameter.value = memory.take(like.sizes(), at::kFloat);
    for (auto* moment : {&parameter.exp_avg, &parameter.exp_avg_sq})
      *moment =
          parameter.is_table ? memory.take_untouched(like.sizes(), at::kFloat) : memory.take(like.sizes(), at::kFloat);
    if (parameter.is_table) {
      parameter.mine = rows_in_turn(like, rank, ranks);
    } else {
      if (copies && has_copy(like)) parameter.copy = memory.take(like.sizes(), at::kBFloat16);
      parameter.first_block = blocks;
      blocks += blocks_of(like);
    }
    parameters_.push_back(std::move(parameter));
  }
  sums_ = memory.take({blocks}, at::kDouble);
  for (auto& gradients : gradients_)
    for (const auto& parameter : parameters_)
      gradients.push_back(parameter.is_table ? at::Tensor() : memory.take(parameter.value.sizes(), at::kFloat));
  begin_ = blocks * rank / ranks;
  end_ = blocks * (rank + 1) / ranks;
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    auto& parameter = parameters_[i];
    parameter.gradient = gradients_[static_cast<std::size_t>(rank)][i];
    if (parameter.is_table) continue;
    const std::int64_t first = std::max(begin_ - parameter.first_block, std::int64_t{0}),
                       last = std::min(end_ - parameter.first_block, blocks_of(parameter.value));
    if (first < last) parameter.mine = {{first * kBlock, std::min(last * kBlock, parameter.value.numel())}};
  }
}

bool HostShares::hold(const at::Tensor& value) const {
  return std::any_of(parameters_.begin(), parameters_.end(), [&](const Parameter& parameter) {
    return parameter.value.const_data_ptr() == value.const_data_ptr();
  });
}

void HostShares::average(std::size_t parameter, std::int64_t begin, std::int64_t count) const {
  std::vector<const std::byte*> all(gradients_.size());
  for (std::size_t rank = 0; rank < gradients_.size(); ++rank)
    all[rank] = reinterpret_cast<const std::byte*>(gradients_[rank][parameter].const_data_ptr<float>() + begin);
  float* const mine = parameters_[parameter].gradient.mutable_data_ptr<float>() + begin;
  reduce_in_order(Reduction::average, ElementType::f32, all, reinterpret_cast<std::byte*>(mine),
                  static_cast<std::size_t>(count));
}

}  // namespace mmkd
