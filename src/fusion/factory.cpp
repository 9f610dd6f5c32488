#include "fusions.h"
#include "mmkd/base/error.h"

namespace mmkd {

std::vector<nn::WeightEntry> Fusion::named_weights() const {
  std::vector<nn::WeightEntry> entries;
  collect_weights("", entries);
  return entries;
}

std::shared_ptr<Fusion> make_fusion(const FusionSpec& spec) {
  if (spec.dim < 1) throw UsageError("fusion: the width {} must be positive", spec.dim);
  switch (spec.type) {
    case FusionType::simple:
      [[fallthrough]];
    case FusionType::transformer_concat:
      return make_simple_fusion(spec);
    case FusionType::concat_mlp:
      return make_concat_mlp_fusion(spec);
    case FusionType::cross_attention:
      return make_cross_attention_fusion(spec);
    case FusionType::gated:
      [[fallthrough]];
    case FusionType::gated_mlp:
      return make_gated_fusion(spec);
    case FusionType::film:
      return make_film_fusion(spec);
    case FusionType::modality_dropout:
      return make_modality_dropout_fusion(spec);
    case FusionType::energy_aware_adaptive:
      return make_energy_aware_fusion(spec);
    case FusionType::shomr:
      return make_shomr_fusion(spec);
  }
  throw Error("fusion type {} is none of the known", static_cast<int>(spec.type));
}

}  // namespace mmkd
