#pragma once
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mmkd/config/config.h"

// Which names the same tensor has in files of different origin (docs/formats/weights.md).
namespace mmkd {

/// Renames what starts with `from`; a `*` in `from` stands for one name component (a layer's number) and goes where the
/// `*` of `to` is. {"layers.*.mlp.fc1.", "encoder.layer.*.intermediate.dense."} turns "layers.3.mlp.fc1.bias" into
/// "encoder.layer.3.intermediate.dense.bias".
struct Alias {
  std::string from, to;
};

/// The name after the first alias that applies; unchanged if none does.
std::string rename(std::span<const Alias> aliases, const std::string& name);

/// How the tensors of one backbone family are named in checkpoints.
struct BackboneNames {
  std::string prefix;                ///< of checkpoints saved with a head on top: "bert."
  std::vector<Alias> aliases;        ///< other namings -> the names of the towers' weight entries
  std::vector<std::string> ignored;  ///< beginnings of names that a bare tower has no use for: heads, poolers
  std::vector<std::string> ignored_endings = {};  ///< likewise: counters of batch norms
};
BackboneNames names_of(VisionFamily family);
BackboneNames names_of(TextFamily family);

/// The name a tower's weight entry has, or nothing for a tensor that is to be ignored. Takes off the prefix, applies
/// the aliases and turns LayerNorm.gamma and .beta into .weight and .bias.
std::optional<std::string> entry_name(const BackboneNames& names, const std::string& checkpoint_name);

/// Of whole models in the naming of a plain PyTorch two-tower model (`fusion.layers.<i>.…`, `head_mod.*`, `head_loc.*`,
/// `kd.P_img.*`, `kd.P_txt.*`, and transformers' in-memory names of the vision tower) to ours. `task_slugs`: the tasks
/// in their order; head_mod belongs to the first, head_loc to the second.
std::vector<Alias> two_tower_aliases(std::span<const std::string> task_slugs);

}  // namespace mmkd
