#pragma once
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "mmkd/config/config.h"
#include "mmkd/image/image.h"

// config.json and preprocessor_config.json of Hugging Face folders (transformers' ViTConfig, DeiTConfig,
// MobileViTConfig, MobileNetV2Config, BertConfig, DistilBertConfig, MobileBertConfig, RobertaConfig). Keys that a file
// leaves out have the defaults of those classes.
namespace mmkd {

/// The size of a vision tower; `name` of the result stays empty. `where` (the file) starts each error. Throws Error for
/// a model_type other than vit, deit, mobilevit and mobilenet_v2, values of the wrong kind or out of range, and what is
/// not supported: other than 3 channels, images or patches that are not square.
VisionConfig vision_config_from_hf(const nlohmann::json& config, const std::string& where);

/// The size of a text tower; `name` of the result stays empty. DistilBERT's dim, n_layers, … arrive under BERT's names,
/// type_vocab_size is 0 there. Throws Error for a model_type other than bert, distilbert, mobilebert and roberta,
/// values of the wrong kind or out of range, and what is not supported: decoders, cross-attention, other than absolute
/// positions.
TextConfig text_config_from_hf(const nlohmann::json& config, const std::string& where);

/// Has the tower a distillation token beside the class token (DeiT)?
inline bool is_distilled(const VisionConfig& config) { return config.family == VisionFamily::deit; }

/// What transformers' from_pretrained reads back as the same tower, without pooler. Throws Error for custom_text, which
/// transformers has no class for.
nlohmann::ordered_json to_hf_json(const VisionConfig& config);
nlohmann::ordered_json to_hf_json(const TextConfig& config);
/// preprocessor_config.json; the processor's name is that of the reference which treats pictures as `policy` says.
nlohmann::ordered_json to_hf_json(const ImagePolicy& policy);

}  // namespace mmkd
