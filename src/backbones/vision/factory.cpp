#include "mmkd/backbones/vision_backbone.h"
#include "mmkd/base/error.h"
#include "mmkd/config/names.h"
#include "vit.h"

namespace mmkd {

std::vector<nn::WeightEntry> VisionBackbone::named_weights() const {
  std::vector<nn::WeightEntry> entries;
  collect_weights("", entries);
  return entries;
}

std::shared_ptr<VisionBackbone> make_vision_backbone(const VisionConfig& config) {
  switch (config.family) {
    case VisionFamily::vit:
      [[fallthrough]];
    case VisionFamily::deit:
      return std::make_shared<Vit>(config);
    case VisionFamily::mobilevit:
      [[fallthrough]];
    case VisionFamily::mobilenet_v2:
      break;
  }
  throw UsageError("vision tower: the family {} is not available in this version; choose vit or deit",
                   to_string(config.family));
}

}  // namespace mmkd
