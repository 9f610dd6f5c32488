#include <torch/autograd.h>

#include "mmkd/base/error.h"
#include "mmkd/dist/world.h"

namespace mmkd {

namespace {

/// [rows, …] -> [count, …], zeros behind.
at::Tensor pad_rows(const at::Tensor& rows, std::int64_t count) {
  if (rows.size(0) == count) return rows;
  auto shape = rows.sizes().vec();
  shape[0] = count - rows.size(0);
  return at::cat({rows, at::zeros(shape, rows.options())});
}

/// [world * max_rows, …] -> [global_count, …]: each rank's share without its filler.
at::Tensor drop_filler(const at::Tensor& padded, const BatchShares& shares) {
  if (shares.global_count == shares.world * shares.max_rows()) return padded;
  std::vector<at::Tensor> parts;
  for (std::int64_t rank = 0; rank < shares.world; ++rank)
    if (shares.rows_of(rank) > 0) parts.push_back(padded.narrow(0, rank * shares.max_rows(), shares.rows_of(rank)));
  return at::cat(parts);
}

class GatherRows final : public torch::autograd::Function<GatherRows> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& local, const World* world,
                            const BatchShares& shares) {
    context->saved_data["rows"] = shares.rows_of(world->rank());
    context->saved_data["begin"] = shares.begin_of(world->rank());
    context->saved_data["world"] = shares.world;
    return drop_filler(world->all_gather(pad_rows(local, shares.max_rows())), shares);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const auto value = [&](const char* name) { return context->saved_data[name].toInt(); };
    const at::Tensor& gradient = gradients[0];  // [global_count, …]
    const auto own = gradient.narrow(0, value("begin"), value("rows")) * value("world");
    return {pad_rows(own, std::max<std::int64_t>(value("rows"), 1)), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

at::Tensor gather_rows(const World& world, const at::Tensor& local, const BatchShares& shares) {
  if (shares.world != world.size() || shares.global_count < 1)
    throw Error("gather_rows: shares of {} rows over {} ranks in a world of {}", shares.global_count, shares.world,
                world.size());
  const std::int64_t expected = std::max<std::int64_t>(shares.rows_of(world.rank()), 1);
  if (local.dim() == 0 || local.size(0) != expected)
    throw Error("gather_rows: rank {} has {} rows, its share of {} over {} ranks is {}", world.rank(),
                local.dim() == 0 ? 0 : local.size(0), shares.global_count, shares.world, expected);
  if (world.size() == 1) return local;
  return GatherRows::apply(local, &world, shares);
}

}  // namespace mmkd
