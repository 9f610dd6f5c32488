#include "fusions.h"
#include "mmkd/base/error.h"
#include "mmkd/config/names.h"

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
      return make_simple_fusion(spec);
    case FusionType::concat_mlp:
      return make_concat_mlp_fusion(spec);
    case FusionType::gated:
      return make_gated_fusion(spec);
    case FusionType::cross_attention:
      [[fallthrough]];
    case FusionType::film:
      [[fallthrough]];
    case FusionType::modality_dropout:
      [[fallthrough]];
    case FusionType::transformer_concat:
      [[fallthrough]];
    case FusionType::energy_aware_adaptive:
      [[fallthrough]];
    case FusionType::shomr:
      break;
  }
  throw UsageError("fusion: the type {} is not available in this version; choose simple, concat_mlp or gated",
                   to_string(spec.type));
}

}  // namespace mmkd
