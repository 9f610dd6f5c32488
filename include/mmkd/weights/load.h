#pragma once
#include <ATen/ATen.h>

#include <filesystem>
#include <map>
#include <span>
#include <string>

#include "mmkd/config/config.h"
#include "mmkd/nn/weight_entry.h"
#include "mmkd/weights/names.h"

// Weights from files into a model. Each function checks everything before it changes the first value, and throws one
// Error that lists all that is wrong: missing and unknown tensors, wrong shapes (expected and found; a wrong number of
// word embeddings is named as a tokenizer that does not belong to the weights), types that are no floating-point
// numbers. f16, bf16 and f64 are converted to the entry's type.
namespace mmkd {

/// Fills a tower from a Hugging Face checkpoint: file, index or folder (Checkpoint::open). `entries` are named as in a
/// checkpoint of the bare tower; names_of(family) says what is accepted beyond these names and what is ignored.
void load_backbone(std::span<const nn::WeightEntry> entries, const std::filesystem::path& path,
                   const BackboneNames& names);

/// Fills a whole model (towers, projections, fusion, heads) from one file. A name that is an entry's stands for it, any
/// other goes through `aliases` first. Returns the tensors under `distill.` that the model has no entries for (the
/// projections of a distillation), by name, on the CPU.
std::map<std::string, at::Tensor> load_model_weights(std::span<const nn::WeightEntry> entries,
                                                     const std::filesystem::path& path,
                                                     std::span<const Alias> aliases = {});

}  // namespace mmkd
