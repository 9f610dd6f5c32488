#include "mmkd/weights/hf_config.h"

#include "mmkd/base/error.h"
#include "mmkd/config/names.h"

namespace mmkd {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

/// Values of a config.json by key, checked; every error names file and key.
class Reader {
 public:
  Reader(const json& config, const std::string& where) : config_(config), where_(where) {
    if (!config.is_object()) throw Error("{}: a JSON object is needed", where);
  }

  std::string text(const char* key, const std::string& otherwise) const {
    const auto* value = find(key);
    if (value == nullptr) return otherwise;
    if (!value->is_string()) fail(key, "text", *value);
    return value->get<std::string>();
  }

  bool flag(const char* key, bool otherwise) const {
    const auto* value = find(key);
    if (value == nullptr) return otherwise;
    if (!value->is_boolean()) fail(key, "true or false", *value);
    return value->get<bool>();
  }

  double positive_number(const char* key, double otherwise) const {
    const auto* value = find(key);
    if (value == nullptr) return otherwise;
    if (!value->is_number() || !(value->get<double>() > 0)) fail(key, "a number above 0", *value);
    return value->get<double>();
  }

  /// A probability below 1; 0 disables.
  double dropout(const char* key, double otherwise) const {
    const auto* value = find(key);
    if (value == nullptr) return otherwise;
    const bool valid = value->is_number() && value->get<double>() >= 0 && value->get<double>() < 1;
    if (!valid) fail(key, "a number from 0 to below 1", *value);
    return value->get<double>();
  }

  /// At least `smallest`, and small enough that products of a few such sizes cannot overflow.
  std::int64_t size(const char* key, std::int64_t otherwise, std::int64_t smallest = 1) const {
    const auto* value = find(key);
    return value == nullptr ? otherwise : checked_size(key, *value, smallest);
  }

  /// As many sizes as `otherwise` has.
  std::vector<std::int64_t> sizes(const char* key, const std::vector<std::int64_t>& otherwise) const {
    const auto* value = find(key);
    if (value == nullptr) return otherwise;
    if (!value->is_array() || value->size() != otherwise.size())
      fail(key, fmt::format("a list of {} whole numbers", otherwise.size()), *value);
    std::vector<std::int64_t> result;
    for (const auto& item : *value) result.push_back(checked_size(key, item, 1));
    return result;
  }

  /// A number, or a list of two equal numbers.
  std::int64_t square(const char* key, std::int64_t otherwise) const {
    const auto* value = find(key);
    if (value == nullptr) return otherwise;
    if (!value->is_array()) return checked_size(key, *value, 1);
    if (value->size() != 2 || (*value)[0] != (*value)[1]) fail(key, "one size (only squares are supported)", *value);
    return checked_size(key, (*value)[0], 1);
  }

  std::int64_t pad_token_id(std::int64_t vocab_size, std::int64_t otherwise = 0) const {
    const std::int64_t id = size("pad_token_id", otherwise, 0);
    if (id >= vocab_size) throw Error("{}: pad_token_id {} lies outside the vocabulary of {}", where_, id, vocab_size);
    return id;
  }

  void require(const char* key, const json& needed, const json& otherwise) const {
    const auto* value = find(key);
    const json& found = value == nullptr ? otherwise : *value;
    if (found != needed) fail(key, needed.dump() + " (others are not supported)", found);
  }

  void require_heads_divide(const char* width_key, std::int64_t width, const char* heads_key,
                            std::int64_t heads) const {
    if (width % heads != 0)
      throw Error("{}: {} {} is no multiple of {} {}", where_, width_key, width, heads_key, heads);
  }

  const std::string& where() const { return where_; }

 private:
  /// Null counts as absent, as in the reference.
  const json* find(const char* key) const {
    const auto found = config_.find(key);
    return found == config_.end() || found->is_null() ? nullptr : &*found;
  }

  std::int64_t checked_size(const char* key, const json& value, std::int64_t smallest) const {
    constexpr std::int64_t kLargest = 1 << 24;
    const std::string expected = fmt::format("a whole number from {} to {}", smallest, kLargest);
    if (!value.is_number_integer()) fail(key, expected, value);
    const auto number = value.get<std::int64_t>();
    if (number < smallest || number > kLargest) fail(key, expected, value);
    return number;
  }

  [[noreturn]] void fail(const char* key, const std::string& expected, const json& found) const {
    throw Error("{}: {}: expected {}, found {}", where_, key, expected, found.dump());
  }

  const json& config_;
  const std::string& where_;
};

/// RobertaConfig has the keys of BertConfig.
TextConfig bert_config(const Reader& read, TextFamily family) {
  TextConfig text;
  text.family = family;
  text.vocab_size = read.size("vocab_size", 30522);
  text.hidden_size = read.size("hidden_size", 768);
  text.num_hidden_layers = read.size("num_hidden_layers", 12, 0);
  text.num_attention_heads = read.size("num_attention_heads", 12);
  text.intermediate_size = read.size("intermediate_size", 3072);
  text.max_position_embeddings = read.size("max_position_embeddings", 512);
  text.type_vocab_size = read.size("type_vocab_size", 2);
  text.hidden_act = read.text("hidden_act", "gelu");
  text.layer_norm_eps = read.positive_number("layer_norm_eps", 1e-12);
  text.hidden_dropout = read.dropout("hidden_dropout_prob", 0.1);
  text.initializer_range = read.positive_number("initializer_range", 0.02);
  text.pad_token_id = read.pad_token_id(text.vocab_size, family == TextFamily::roberta ? 1 : 0);
  read.require("position_embedding_type", "absolute", "absolute");
  read.require("is_decoder", false, false);
  read.require("add_cross_attention", false, false);
  read.require_heads_divide("hidden_size", text.hidden_size, "num_attention_heads", text.num_attention_heads);
  return text;
}

TextConfig distilbert_config(const Reader& read) {
  TextConfig text;
  text.family = TextFamily::distilbert;
  text.vocab_size = read.size("vocab_size", 30522);
  text.hidden_size = read.size("dim", 768);
  text.num_hidden_layers = read.size("n_layers", 6, 0);
  text.num_attention_heads = read.size("n_heads", 12);
  text.intermediate_size = read.size("hidden_dim", 4 * 768);
  text.max_position_embeddings = read.size("max_position_embeddings", 512);
  text.type_vocab_size = 0;
  text.hidden_act = read.text("activation", "gelu");
  text.layer_norm_eps = 1e-12;  // fixed in the reference
  text.hidden_dropout = read.dropout("dropout", 0.1);
  text.initializer_range = read.positive_number("initializer_range", 0.02);
  text.pad_token_id = read.pad_token_id(text.vocab_size);
  read.require_heads_divide("dim", text.hidden_size, "n_heads", text.num_attention_heads);
  return text;
}

TextConfig mobilebert_config(const Reader& read) {
  TextConfig text;
  text.family = TextFamily::mobilebert;
  text.vocab_size = read.size("vocab_size", 30522);
  text.hidden_size = read.size("hidden_size", 512);
  text.num_hidden_layers = read.size("num_hidden_layers", 24, 0);
  text.num_attention_heads = read.size("num_attention_heads", 4);
  text.intermediate_size = read.size("intermediate_size", 512);
  text.max_position_embeddings = read.size("max_position_embeddings", 512);
  text.type_vocab_size = read.size("type_vocab_size", 2);
  text.hidden_act = read.text("hidden_act", "relu");
  text.layer_norm_eps = read.positive_number("layer_norm_eps", 1e-12);
  text.hidden_dropout = read.dropout("hidden_dropout_prob", 0.0);
  text.initializer_range = read.positive_number("initializer_range", 0.02);
  text.pad_token_id = read.pad_token_id(text.vocab_size);
  auto& net = text.mobilebert;
  net.embedding_size = read.size("embedding_size", 128);
  net.intra_bottleneck_size = read.size("intra_bottleneck_size", 128);
  net.num_feedforward_networks = read.size("num_feedforward_networks", 4);
  net.trigram_input = read.flag("trigram_input", true);
  net.use_bottleneck = read.flag("use_bottleneck", true);
  net.use_bottleneck_attention = read.flag("use_bottleneck_attention", false);
  net.key_query_shared_bottleneck = read.flag("key_query_shared_bottleneck", true);
  net.normalization_type = read.text("normalization_type", "no_norm");
  return text;
}

VisionConfig mobilevit_config(const Reader& read) {
  VisionConfig vision;
  vision.family = VisionFamily::mobilevit;
  vision.image_size = read.square("image_size", 256);
  vision.initializer_range = read.positive_number("initializer_range", 0.02);
  auto& net = vision.mobilevit;
  net.hidden_sizes = read.sizes("hidden_sizes", net.hidden_sizes);
  net.neck_hidden_sizes = read.sizes("neck_hidden_sizes", net.neck_hidden_sizes);
  net.num_attention_heads = read.size("num_attention_heads", 4);
  net.patch_size = read.square("patch_size", 2);
  net.conv_kernel_size = read.size("conv_kernel_size", 3);
  net.output_stride = read.size("output_stride", 32);
  net.mlp_ratio = read.positive_number("mlp_ratio", 2.0);
  net.expand_ratio = read.positive_number("expand_ratio", 4.0);
  net.hidden_act = read.text("hidden_act", "silu");
  net.layer_norm_eps = read.positive_number("layer_norm_eps", 1e-5);
  net.qkv_bias = read.flag("qkv_bias", true);
  net.hidden_dropout = read.dropout("hidden_dropout_prob", 0.1);
  read.require("num_channels", 3, 3);
  return vision;
}

VisionConfig mobilenet_v2_config(const Reader& read) {
  VisionConfig vision;
  vision.family = VisionFamily::mobilenet_v2;
  vision.image_size = read.square("image_size", 224);
  vision.initializer_range = read.positive_number("initializer_range", 0.02);
  auto& net = vision.mobilenet_v2;
  net.depth_multiplier = read.positive_number("depth_multiplier", 1.0);
  net.depth_divisible_by = read.size("depth_divisible_by", 8);
  net.min_depth = read.size("min_depth", 8);
  net.expand_ratio = read.positive_number("expand_ratio", 6.0);
  net.output_stride = read.size("output_stride", 32);
  net.first_layer_is_expansion = read.flag("first_layer_is_expansion", true);
  net.finegrained_output = read.flag("finegrained_output", true);
  net.hidden_act = read.text("hidden_act", "relu6");
  net.tf_padding = read.flag("tf_padding", true);
  net.batch_norm_eps = read.positive_number("layer_norm_eps", 0.001);
  read.require("num_channels", 3, 3);
  return vision;
}

std::int64_t intermediate_size(std::int64_t given, std::int64_t hidden) { return given == 0 ? 4 * hidden : given; }

ordered_json processor_size(const ImagePolicy& policy) {
  if (policy.shortest_edge > 0) return {{"shortest_edge", policy.shortest_edge}};
  return {{"height", policy.height}, {"width", policy.width}};
}

/// MobileViT's alone swaps channels, MobileNetV2's alone keeps the aspect, DeiT's crops.
std::string processor_name(const ImagePolicy& policy) {
  if (policy.bgr) return "MobileViTImageProcessor";
  if (policy.shortest_edge > 0) return "MobileNetV2ImageProcessor";
  return policy.do_center_crop ? "DeiTImageProcessor" : "ViTImageProcessor";
}

}  // namespace

VisionConfig vision_config_from_hf(const json& config, const std::string& where) {
  const Reader read(config, where);
  const std::string type = read.text("model_type", "");
  if (type == "mobilevit") return mobilevit_config(read);
  if (type == "mobilenet_v2") return mobilenet_v2_config(read);
  if (type != "vit" && type != "deit") {
    throw Error("{}: model_type: expected vit, deit, mobilevit or mobilenet_v2 for a vision tower, found '{}'", where,
                type);
  }
  VisionConfig vision;
  vision.family = type == "vit" ? VisionFamily::vit : VisionFamily::deit;
  vision.hidden_size = read.size("hidden_size", 768);
  vision.num_hidden_layers = read.size("num_hidden_layers", 12, 0);
  vision.num_attention_heads = read.size("num_attention_heads", 12);
  vision.intermediate_size = read.size("intermediate_size", 3072);
  vision.image_size = read.square("image_size", 224);
  vision.patch_size = read.square("patch_size", 16);
  vision.hidden_act = read.text("hidden_act", "gelu");
  vision.layer_norm_eps = read.positive_number("layer_norm_eps", 1e-12);
  vision.qkv_bias = read.flag("qkv_bias", true);
  vision.hidden_dropout = read.dropout("hidden_dropout_prob", 0.0);
  vision.initializer_range = read.positive_number("initializer_range", 0.02);
  read.require("num_channels", 3, 3);
  read.require_heads_divide("hidden_size", vision.hidden_size, "num_attention_heads", vision.num_attention_heads);
  if (vision.patch_size > vision.image_size) {
    throw Error("{}: patch_size {} is larger than image_size {}", where, vision.patch_size, vision.image_size);
  }
  return vision;
}

TextConfig text_config_from_hf(const json& config, const std::string& where) {
  const Reader read(config, where);
  const std::string type = read.text("model_type", "");
  if (type == "bert") return bert_config(read, TextFamily::bert);
  if (type == "roberta") return bert_config(read, TextFamily::roberta);
  if (type == "distilbert") return distilbert_config(read);
  if (type == "mobilebert") return mobilebert_config(read);
  throw Error("{}: model_type: expected bert, distilbert, mobilebert or roberta for a text tower, found '{}'", where,
              type);
}

namespace {

ordered_json mobilevit_json(const VisionConfig& config) {
  const auto& net = config.mobilevit;
  return {{"architectures", {"MobileViTModel"}},
          {"model_type", "mobilevit"},
          {"image_size", config.image_size},
          {"num_channels", 3},
          {"hidden_sizes", net.hidden_sizes},
          {"neck_hidden_sizes", net.neck_hidden_sizes},
          {"num_attention_heads", net.num_attention_heads},
          {"patch_size", net.patch_size},
          {"conv_kernel_size", net.conv_kernel_size},
          {"output_stride", net.output_stride},
          {"mlp_ratio", net.mlp_ratio},
          {"expand_ratio", net.expand_ratio},
          {"hidden_act", net.hidden_act},
          {"layer_norm_eps", net.layer_norm_eps},
          {"qkv_bias", net.qkv_bias},
          {"hidden_dropout_prob", net.hidden_dropout},
          {"initializer_range", config.initializer_range},
          {"dtype", "float32"}};
}

ordered_json mobilenet_v2_json(const VisionConfig& config) {
  const auto& net = config.mobilenet_v2;
  return {{"architectures", {"MobileNetV2Model"}},
          {"model_type", "mobilenet_v2"},
          {"image_size", config.image_size},
          {"num_channels", 3},
          {"depth_multiplier", net.depth_multiplier},
          {"depth_divisible_by", net.depth_divisible_by},
          {"min_depth", net.min_depth},
          {"expand_ratio", net.expand_ratio},
          {"output_stride", net.output_stride},
          {"first_layer_is_expansion", net.first_layer_is_expansion},
          {"finegrained_output", net.finegrained_output},
          {"hidden_act", net.hidden_act},
          {"tf_padding", net.tf_padding},
          {"layer_norm_eps", net.batch_norm_eps},
          {"initializer_range", config.initializer_range},
          {"dtype", "float32"}};
}

/// BertConfig; RobertaConfig and MobileBertConfig have its keys too.
ordered_json bert_json(const TextConfig& config, const char* model, const char* type) {
  return {{"architectures", {model}},
          {"model_type", type},
          {"vocab_size", config.vocab_size},
          {"hidden_size", config.hidden_size},
          {"num_hidden_layers", config.num_hidden_layers},
          {"num_attention_heads", config.num_attention_heads},
          {"intermediate_size", intermediate_size(config.intermediate_size, config.hidden_size)},
          {"hidden_act", config.hidden_act},
          {"hidden_dropout_prob", config.hidden_dropout},
          {"attention_probs_dropout_prob", 0.1},
          {"max_position_embeddings", config.max_position_embeddings},
          {"type_vocab_size", config.type_vocab_size},
          {"initializer_range", config.initializer_range},
          {"layer_norm_eps", config.layer_norm_eps},
          {"pad_token_id", config.pad_token_id},
          {"dtype", "float32"}};
}

ordered_json mobilebert_json(const TextConfig& config) {
  const auto& net = config.mobilebert;
  auto result = bert_json(config, "MobileBertModel", "mobilebert");
  result["embedding_size"] = net.embedding_size;
  result["intra_bottleneck_size"] = net.intra_bottleneck_size;
  result["num_feedforward_networks"] = net.num_feedforward_networks;
  result["trigram_input"] = net.trigram_input;
  result["use_bottleneck"] = net.use_bottleneck;
  result["use_bottleneck_attention"] = net.use_bottleneck_attention;
  result["key_query_shared_bottleneck"] = net.key_query_shared_bottleneck;
  result["normalization_type"] = net.normalization_type;
  return result;
}

}  // namespace

ordered_json to_hf_json(const VisionConfig& config) {
  if (config.family == VisionFamily::mobilevit) return mobilevit_json(config);
  if (config.family == VisionFamily::mobilenet_v2) return mobilenet_v2_json(config);
  const bool deit = is_distilled(config);
  return {{"architectures", {deit ? "DeiTModel" : "ViTModel"}},
          {"model_type", deit ? "deit" : "vit"},
          {"hidden_size", config.hidden_size},
          {"num_hidden_layers", config.num_hidden_layers},
          {"num_attention_heads", config.num_attention_heads},
          {"intermediate_size", intermediate_size(config.intermediate_size, config.hidden_size)},
          {"hidden_act", config.hidden_act},
          {"hidden_dropout_prob", config.hidden_dropout},
          {"attention_probs_dropout_prob", 0.0},
          {"initializer_range", config.initializer_range},
          {"layer_norm_eps", config.layer_norm_eps},
          {"image_size", config.image_size},
          {"patch_size", config.patch_size},
          {"num_channels", 3},
          {"qkv_bias", config.qkv_bias},
          {"dtype", "float32"}};
}

ordered_json to_hf_json(const TextConfig& config) {
  switch (config.family) {
    case TextFamily::bert:
      return bert_json(config, "BertModel", "bert");
    case TextFamily::roberta:
      return bert_json(config, "RobertaModel", "roberta");
    case TextFamily::mobilebert:
      return mobilebert_json(config);
    case TextFamily::distilbert:
      return {{"architectures", {"DistilBertModel"}},
              {"model_type", "distilbert"},
              {"vocab_size", config.vocab_size},
              {"dim", config.hidden_size},
              {"n_layers", config.num_hidden_layers},
              {"n_heads", config.num_attention_heads},
              {"hidden_dim", intermediate_size(config.intermediate_size, config.hidden_size)},
              {"activation", config.hidden_act},
              {"dropout", config.hidden_dropout},
              {"attention_dropout", 0.1},
              {"max_position_embeddings", config.max_position_embeddings},
              {"sinusoidal_pos_embds", false},
              {"initializer_range", config.initializer_range},
              {"pad_token_id", config.pad_token_id},
              {"dtype", "float32"}};
    case TextFamily::custom_text:
      break;
  }
  throw Error("a tower of the family {} cannot be exported as a Hugging Face folder: transformers has no class for it",
              to_string(config.family));
}

ordered_json to_hf_json(const ImagePolicy& policy) {
  ordered_json json{{"image_processor_type", processor_name(policy)},
                    {"do_resize", policy.do_resize},
                    {"size", processor_size(policy)},
                    {"resample", static_cast<int>(policy.resample)},
                    {"do_rescale", policy.do_rescale},
                    {"rescale_factor", policy.rescale_factor}};
  if (policy.bgr) {
    json["do_flip_channel_order"] = true;
  } else {
    json["do_normalize"] = policy.do_normalize;
    json["image_mean"] = policy.mean;
    json["image_std"] = policy.std;
  }
  if (processor_name(policy) != "ViTImageProcessor") {
    json["do_center_crop"] = policy.do_center_crop;
    if (policy.do_center_crop) json["crop_size"] = {{"height", policy.crop_height}, {"width", policy.crop_width}};
  }
  return json;
}

}  // namespace mmkd
