#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <string>

#include "mmkd/base/error.h"
#include "mmkd/base/files.h"
#include "mmkd/image/image.h"

// preprocessor_config.json of Hugging Face's image processors. Absent and null fields have the defaults of the
// processor's class in transformers 5.
namespace mmkd {
namespace {

using nlohmann::json;

enum class Processor { vit, deit, mobilevit, mobilenet_v2 };

constexpr std::int64_t max_side = 16384;
constexpr std::uint64_t max_file_bytes = 1 << 20;

Processor parse_processor(const json& config, std::string_view name) {
  std::string type;
  for (const char* key : {"image_processor_type", "feature_extractor_type"}) {  // the second one is the older spelling
    if (type.empty() && config.contains(key) && config.at(key).is_string()) type = config.at(key).get<std::string>();
  }
  if (type.empty()) {
    throw Error("{}: no image_processor_type; write the processor it is meant for, for example \"ViTImageProcessor\"",
                name);
  }
  std::string family = type;
  for (const std::string_view suffix : {"Fast", "Pil"}) {  // other implementations of the same processor
    if (family.ends_with(suffix)) family.resize(family.size() - suffix.size());
  }
  for (const std::string_view suffix : {"ImageProcessor", "FeatureExtractor"}) {
    if (family.ends_with(suffix)) family.resize(family.size() - suffix.size());
  }
  if (family == "ViT") return Processor::vit;
  if (family == "DeiT") return Processor::deit;
  if (family == "MobileViT") return Processor::mobilevit;
  if (family == "MobileNetV2") return Processor::mobilenet_v2;
  throw Error(
      "{}: unknown image processor {}; known are ViTImageProcessor, DeiTImageProcessor, MobileViTImageProcessor and "
      "MobileNetV2ImageProcessor",
      name, type);
}

/// What the class of a processor does where the file is silent.
ImagePolicy class_defaults(Processor processor) {
  ImagePolicy policy = vit_policy(224);
  const auto crop = [&policy](std::int64_t side) {
    policy.do_center_crop = true;
    policy.crop_height = policy.crop_width = side;
  };
  switch (processor) {
    case Processor::vit:
      break;
    case Processor::deit:
      policy.height = policy.width = 256;
      policy.resample = Resample::bicubic;
      crop(224);
      break;
    case Processor::mobilevit:
      policy.shortest_edge = 224;
      policy.do_normalize = false;
      policy.bgr = true;
      crop(256);
      break;
    case Processor::mobilenet_v2:
      policy.shortest_edge = 256;
      crop(224);
      break;
  }
  return policy;
}

/// Typed access to the fields of one file; every error names file and field.
class Fields {
 public:
  Fields(const json& config, std::string_view name) : config_(config), name_(name) {}

  /// Null counts as absent.
  const json* find(const char* key) const {
    const auto it = config_.find(key);
    return it == config_.end() || it->is_null() ? nullptr : &*it;
  }

  [[noreturn]] void reject(const char* key, const json& found, const char* expected) const {
    throw Error("{}: {} is {}, expected {}", name_, key, found.dump(-1, ' ', true, json::error_handler_t::replace),
                expected);
  }

  bool flag(const char* key, bool absent) const {
    const json* value = find(key);
    if (value == nullptr) return absent;
    if (!value->is_boolean()) reject(key, *value, "true or false");
    return value->get<bool>();
  }

  double positive(const char* key, double absent) const {
    const json* value = find(key);
    if (value == nullptr) return absent;
    if (!value->is_number() || !std::isfinite(value->get<double>()) || value->get<double>() <= 0.0) {
      reject(key, *value, "a positive number");
    }
    return value->get<double>();
  }

  /// One number for all channels, or one for each of R, G, B.
  std::array<double, 3> channels(const char* key, std::array<double, 3> absent, const char* expected) const {
    const json* value = find(key);
    if (value == nullptr) return absent;
    if (value->is_number()) return {value->get<double>(), value->get<double>(), value->get<double>()};
    const auto is_number = [](const json& item) { return item.is_number(); };
    if (!value->is_array() || value->size() != 3 || !std::all_of(value->begin(), value->end(), is_number)) {
      reject(key, *value, expected);
    }
    return value->get<std::array<double, 3>>();
  }

  /// A side in pixels inside the field `key`.
  std::int64_t side(const char* key, const json& value) const {
    if (!value.is_number_integer() || value.get<double>() < 1 || value.get<double>() > max_side) {
      reject(key, value, "a number of pixels from 1 to 16384");
    }
    return value.get<std::int64_t>();
  }

  std::string_view name() const { return name_; }

 private:
  const json& config_;
  std::string_view name_;
};

/// {"height", "width"}, [height, width] or one number for both; false if the object has other keys.
bool read_rectangle(const Fields& fields, const char* key, const json& value, std::int64_t& height,
                    std::int64_t& width) {
  const bool object = value.is_object() && value.size() == 2 && value.contains("height") && value.contains("width");
  const bool pair = value.is_array() && value.size() == 2;
  if (value.is_object() && !object) return false;
  height = fields.side(key, object ? value.at("height") : pair ? value.at(0) : value);
  width = fields.side(key, object ? value.at("width") : pair ? value.at(1) : value);
  return true;
}

void read_size(const Fields& fields, ImagePolicy& policy) {
  const json* value = fields.find("size");
  if (value == nullptr) return;
  // A plain number is the shortest edge for the processors whose default is one.
  if (value->is_number() && policy.shortest_edge != 0) {
    policy.shortest_edge = fields.side("size", *value);
  } else if (value->is_object() && value->size() == 1 && value->contains("shortest_edge")) {
    policy.shortest_edge = fields.side("size.shortest_edge", value->at("shortest_edge"));
  } else if (read_rectangle(fields, "size", *value, policy.height, policy.width)) {
    policy.shortest_edge = 0;
  } else {
    fields.reject("size", *value, "{\"height\", \"width\"} or {\"shortest_edge\"}");
  }
}

void read_crop(const Fields& fields, ImagePolicy& policy) {
  policy.do_center_crop = fields.flag("do_center_crop", policy.do_center_crop);
  if (!policy.do_center_crop) return;
  if (const json* value = fields.find("crop_size"); value != nullptr) {
    if (!read_rectangle(fields, "crop_size", *value, policy.crop_height, policy.crop_width)) {
      fields.reject("crop_size", *value, "{\"height\", \"width\"}");
    }
  } else if (policy.crop_height == 0) {
    throw Error("{}: do_center_crop is true, but crop_size is missing", fields.name());
  }
}

void read_resample(const Fields& fields, Processor processor, ImagePolicy& policy) {
  const json* value = fields.find("resample");
  if (value == nullptr) {
    // Releases of transformers disagree: bilinear up to 4, bicubic in 5.
    if (processor == Processor::mobilevit && policy.do_resize) {
      throw Error("{}: resample is missing; write 2 (bilinear) or 3 (bicubic)", fields.name());
    }
    return;
  }
  if (!value->is_number_integer() || value->get<double>() < 0 || value->get<double>() > 5) {
    fields.reject("resample", *value, "0 (nearest), 1 (lanczos), 2 (bilinear), 3 (bicubic), 4 (box) or 5 (hamming)");
  }
  policy.resample = static_cast<Resample>(value->get<int>());
}

/// A step that is switched on and not known would change the pixels unnoticed.
void reject_unknown_steps(const json& config, Processor processor, std::string_view name) {
  constexpr std::array known{"do_resize",       "do_center_crop", "do_rescale", "do_normalize",
                             "do_convert_rgb",                              // always done
                             "do_reduce_labels"};                           // of segmentation maps
  constexpr std::array flips{"do_flip_channel_order", "do_flip_channels"};  // older spelling; the flip is the default
  for (const auto& [key, value] : config.items()) {
    if (!key.starts_with("do_") || value.is_null() || value == json(false)) continue;
    if (std::find(known.begin(), known.end(), key) != known.end()) continue;
    if (processor == Processor::mobilevit && std::find(flips.begin(), flips.end(), key) != flips.end()) continue;
    throw Error("{}: {} is switched on, but is no known step of this image processor", name, key);
  }
}

}  // namespace

ImagePolicy parse_image_policy(std::string_view text, std::string_view name) {
  json config;
  try {
    config = json::parse(text);
  } catch (const json::exception& error) {  // out_of_range too: numbers such as 1e400
    throw Error("{}: not valid JSON: {}", name, error.what());
  }
  if (!config.is_object()) throw Error("{}: expected a JSON object with the settings of an image processor", name);

  const Processor processor = parse_processor(config, name);
  reject_unknown_steps(config, processor, name);
  const Fields fields(config, name);
  ImagePolicy policy = class_defaults(processor);
  policy.do_resize = fields.flag("do_resize", policy.do_resize);
  read_size(fields, policy);
  read_resample(fields, processor, policy);
  read_crop(fields, policy);
  policy.do_rescale = fields.flag("do_rescale", policy.do_rescale);
  policy.rescale_factor = fields.positive("rescale_factor", policy.rescale_factor);
  policy.mean = fields.channels("image_mean", policy.mean, "a number or three");
  policy.std = fields.channels("image_std", policy.std, "a positive number or three");
  for (const double std : policy.std) {
    if (!(std > 0.0)) fields.reject("image_std", config.at("image_std"), "a positive number or three");
  }
  if (processor == Processor::mobilevit) {
    // This processor never normalises, whatever the file says.
    policy.bgr = fields.flag("do_flip_channel_order", policy.bgr);
  } else {
    policy.do_normalize = fields.flag("do_normalize", policy.do_normalize);
  }
  return policy;
}

ImagePolicy read_image_policy(const std::filesystem::path& preprocessor_config) {
  return parse_image_policy(read_file(preprocessor_config, max_file_bytes), preprocessor_config.string());
}

}  // namespace mmkd
