#include "mmkd/backbones/vision_backbone.h"
#include "mmkd/base/error.h"
#include "mobilenet_v2.h"
#include "mobilevit.h"
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
      return std::make_shared<MobileVit>(config);
    case VisionFamily::mobilenet_v2:
      return std::make_shared<MobileNetV2>(config);
  }
  throw Error("vision tower: family {} is none of the known", static_cast<int>(config.family));
}

std::int64_t feature_width(const VisionConfig& config) {
  switch (config.family) {
    case VisionFamily::vit:
      [[fallthrough]];
    case VisionFamily::deit:
      return config.hidden_size;
    case VisionFamily::mobilevit:
      return config.mobilevit.neck_hidden_sizes.back();
    case VisionFamily::mobilenet_v2:
      return feature_width(config.mobilenet_v2);
  }
  throw Error("vision tower: family {} is none of the known", static_cast<int>(config.family));
}

}  // namespace mmkd
