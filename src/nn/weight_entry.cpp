#include "mmkd/nn/weight_entry.h"

namespace mmkd::nn {

void add_weight(std::vector<WeightEntry>& entries, const std::string& name, const at::Tensor& parameter,
                const Init& init) {
  entries.push_back({name, parameter.detach(), parameter, 0, init});
}

void add_buffer(std::vector<WeightEntry>& entries, const std::string& name, const at::Tensor& buffer,
                const Init& init) {
  entries.push_back({name, buffer, {}, 0, init});
}

void add_rows(std::vector<WeightEntry>& entries, const std::string& name, const at::Tensor& parameter,
              std::int64_t first_row, std::int64_t rows, const Init& init) {
  entries.push_back({name, parameter.detach().narrow(0, first_row, rows), parameter, first_row, init});
}

at::Tensor gradient(const WeightEntry& entry) {
  if (!entry.parameter.defined() || !entry.parameter.grad().defined()) return {};
  const at::Tensor& whole = entry.parameter.grad();
  return whole.dim() == 0 ? whole : whole.narrow(0, entry.first_row, entry.view.size(0));
}

}  // namespace mmkd::nn
