#include "row_gradients.h"

#include <algorithm>
#include <cstdint>
#include <optional>

namespace mmkd {
namespace {

constexpr std::int64_t kDense = -1;  // as a number of rows: all of them

/// [n, …] of each rank, n at most `longest`, behind one another in rank order.
at::Tensor gathered(const World& world, const at::Tensor& mine, std::int64_t longest,
                    const std::vector<std::int64_t>& counts) {
  auto shape = mine.sizes().vec();
  shape[0] = longest;
  const at::Tensor padded = at::zeros(shape, mine.options());
  padded.narrow(0, 0, mine.size(0)).copy_(mine);
  const at::Tensor all = world.all_gather(padded);
  std::vector<at::Tensor> parts;
  for (std::size_t rank = 0; rank < counts.size(); ++rank)
    parts.push_back(all.narrow(0, static_cast<std::int64_t>(rank) * longest, counts[rank]));
  return at::cat(parts);
}

}  // namespace

void average_rows(const World& world, nn::DirectGradients& direct, const std::vector<at::Tensor>& tables) {
  if (world.size() == 1 || tables.empty()) return;
  const at::NoGradGuard no_grad;
  std::vector<std::optional<at::Tensor>> rows;
  std::vector<std::int64_t> mine;
  for (const auto& table : tables) {
    rows.push_back(direct.rows_of(table));
    mine.push_back(rows.back() ? rows.back()->numel() : kDense);
  }
  const at::Tensor all = world.all_gather(at::tensor(mine, at::kLong).unsqueeze(0));  // [ranks, tables]
  const double share = 1.0 / world.size();
  for (std::size_t t = 0; t < tables.size(); ++t) {
    const at::Tensor column = all.select(1, static_cast<std::int64_t>(t)).contiguous();
    const auto* count = column.const_data_ptr<std::int64_t>();
    const std::vector<std::int64_t> counts(count, count + column.numel());
    at::Tensor gradient = tables[t].grad();
    if (std::find(counts.begin(), counts.end(), kDense) != counts.end()) {
      world.all_reduce_sum(gradient);
      gradient.mul_(share);
      direct.set_dense(tables[t]);
      continue;
    }
    const std::int64_t longest = *std::max_element(counts.begin(), counts.end());
    if (longest == 0) continue;
    const at::Tensor ids = gathered(world, *rows[t], longest, counts);
    const at::Tensor values = gathered(world, gradient.index_select(0, *rows[t]).mul_(share), longest, counts);
    direct.set_rows(tables[t], ids, values);
  }
}

}  // namespace mmkd
