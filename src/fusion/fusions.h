#pragma once
#include "mmkd/fusion/fusion.h"

// One file each; the factory is the only one that includes all.
namespace mmkd {

std::shared_ptr<Fusion> make_simple_fusion(const FusionSpec& spec);
std::shared_ptr<Fusion> make_concat_mlp_fusion(const FusionSpec& spec);
std::shared_ptr<Fusion> make_gated_fusion(const FusionSpec& spec);

}  // namespace mmkd
