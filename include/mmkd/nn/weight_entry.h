#pragma once
#include <ATen/ATen.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "mmkd/nn/init.h"

namespace mmkd::nn {

/// One tensor of a model as checkpoints know it. The view shares memory with the parameter or buffer that it is, or is
/// a part of (a third of a fused query-key-value weight): writing to it changes the model. Moving the model to another
/// device makes its entries stale.
struct WeightEntry {
  std::string name;            ///< e.g. "encoder.layer.0.attention.attention.query.weight"
  at::Tensor view;             ///< without gradient recording
  at::Tensor parameter = {};   ///< what the view is taken from; undefined where nobody asks for the gradient
  std::int64_t first_row = 0;  ///< of the parameter, where the view begins
  Init init = {};              ///< its values before training from scratch
};

/// Appends a whole parameter, or (add_rows) rows [first_row, first_row + rows) of one.
void add_weight(std::vector<WeightEntry>& entries, const std::string& name, const at::Tensor& parameter,
                const Init& init);
/// Appends a buffer: saved, loaded and initialised like a parameter, but never trained.
void add_buffer(std::vector<WeightEntry>& entries, const std::string& name, const at::Tensor& buffer, const Init& init);
void add_rows(std::vector<WeightEntry>& entries, const std::string& name, const at::Tensor& parameter,
              std::int64_t first_row, std::int64_t rows, const Init& init);

/// The gradient that backward left for this entry, as a view of its parameter's; undefined if there is none.
at::Tensor gradient(const WeightEntry& entry);

/// Gives every entry its initial values. They depend on the seed, the entry's name and the element's index alone, not
/// on the rank, the number of threads, the order of the entries or the version of torch.
void initialize(std::span<const WeightEntry> entries, std::uint64_t seed);

}  // namespace mmkd::nn
