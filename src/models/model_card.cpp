#include "mmkd/models/model_card.h"

#include <nlohmann/json.hpp>

#include "mmkd/base/error.h"
#include "mmkd/config/names.h"
#include "mmkd/weights/checkpoint.h"
#include "mmkd/weights/hf_config.h"
#include "mmkd/weights/load.h"

namespace fs = std::filesystem;

namespace mmkd {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kVersion = 1;
constexpr const char* kOwnFamily = "mmkd_family";  // of a tower that transformers has no class for

Json text_json(TextConfig config) {
  if (config.family != TextFamily::custom_text) return to_hf_json(config);
  // Its sizes have BERT's names.
  config.family = TextFamily::bert;
  config.type_vocab_size = 1;
  Json json = to_hf_json(config);
  json[kOwnFamily] = to_string(TextFamily::custom_text);
  return json;
}

TextConfig text_config(const nlohmann::json& json, const std::string& where) {
  auto config = text_config_from_hf(json, where);
  const auto own = json.find(kOwnFamily);
  if (own == json.end()) return config;
  if (*own != to_string(TextFamily::custom_text)) throw Error("{}: {} {} is unknown", where, kOwnFamily, own->dump());
  config.family = TextFamily::custom_text;
  config.type_vocab_size = TextConfig{}.type_vocab_size;
  return config;
}

Json fusion_json(const FusionSpec& fusion) {
  return {{"type", to_string(fusion.type)},
          {"dim", fusion.dim},
          {"heads", fusion.heads},
          {"layers", fusion.layers},
          {"hidden_mult", fusion.hidden_mult}};
}

FusionSpec fusion_spec(const nlohmann::json& json, const std::string& where) {
  FusionSpec fusion;
  fusion.type = value_named<FusionType>(json.at("type").get<std::string>(), where);
  fusion.dim = json.at("dim");
  fusion.heads = json.at("heads");
  fusion.layers = json.at("layers");
  fusion.hidden_mult = json.at("hidden_mult");
  return fusion;
}

Json tokenizer_json(const ModelCard& card) {
  return {{"file", fs::path(card.tokenizer.name).extension() == ".json" ? "tokenizer.json" : "vocab.txt"},
          {"do_lower_case", card.tokenizer_settings.do_lower_case},
          {"strip_accents", card.tokenizer_settings.strip_accents},
          {"tokenize_chinese_chars", card.tokenizer_settings.tokenize_chinese_chars},
          {"max_length", card.max_length},
          {"content", card.tokenizer.bytes}};
}

void read_tokenizer(ModelCard& card, const nlohmann::json& json, const std::string& where) {
  card.tokenizer = {where + ": " + json.at("file").get<std::string>(), json.at("content")};
  card.tokenizer_settings = {.do_lower_case = json.at("do_lower_case"),
                             .strip_accents = json.at("strip_accents"),
                             .tokenize_chinese_chars = json.at("tokenize_chinese_chars")};
  card.max_length = json.at("max_length");
  if (card.max_length < 3 || card.max_length > longest_text(card.spec.text))
    throw Error("{}: texts of {} tokens do not fit its text tower", where, card.max_length);
}

void read_card(ModelCard& card, const nlohmann::json& json, const std::string& where) {
  auto& spec = card.spec;
  spec.modality = value_named<Modality>(json.at("modality").get<std::string>(), where);
  spec.fusion = fusion_spec(json.at("fusion"), where);
  if (spec.modality != Modality::text) {
    const auto& vision = json.at("vision");
    card.vision_name = vision.at("name");
    spec.vision = vision_config_from_hf(vision.at("config"), where);
    card.policy = parse_image_policy(vision.at("preprocessor").dump(), where);
  }
  if (spec.modality != Modality::image) {
    const auto& text = json.at("text");
    card.text_name = text.at("name");
    spec.text = text_config(text.at("config"), where);
    spec.text_pooling = value_named<TextPooling>(text.at("pooling").get<std::string>(), where);
    read_tokenizer(card, text.at("tokenizer"), where);
  }
}

}  // namespace

std::string to_json_text(const ModelCard& card) {
  const auto& spec = card.spec;
  Json json{{"version", kVersion}, {"modality", to_string(spec.modality)}, {"fusion", fusion_json(spec.fusion)}};
  if (spec.modality != Modality::text) {
    json["vision"] = {
        {"name", card.vision_name}, {"config", to_hf_json(spec.vision)}, {"preprocessor", to_hf_json(card.policy)}};
  }
  if (spec.modality != Modality::image) {
    json["text"] = {{"name", card.text_name},
                    {"config", text_json(spec.text)},
                    {"pooling", to_string(spec.text_pooling)},
                    {"tokenizer", tokenizer_json(card)}};
  }
  return json.dump();
}

ModelCard card_of(const ModelDescription& description, const std::string& where) {
  const auto json = nlohmann::json::parse(description.model, nullptr, false);
  if (!json.is_object()) throw Error("{}: its metadata 'mmkd_model' is no JSON object", where);
  ModelCard card;
  card.tasks = description.tasks;
  for (const auto& task : card.tasks)
    card.spec.tasks.push_back({slug(task.label), static_cast<std::int64_t>(task.classes.size())});
  try {
    if (json.at("version") != kVersion)
      throw Error("{}: describes its model in version {}, this program knows version {}", where,
                  json.at("version").dump(), kVersion);
    read_card(card, json, where);
  } catch (const nlohmann::json::exception& error) {
    throw Error("{}: its metadata 'mmkd_model' is malformed: {}", where, error.what());
  }
  return card;
}

OpenedModel open_model(const fs::path& weights) {
  const auto checkpoint = Checkpoint::open(weights);
  const auto& metadata = checkpoint.metadata();
  if (!metadata.contains("mmkd_model")) {
    throw UsageError(
        "{}: says nothing about its model; expected a .safetensors file that mmkd trained, such as "
        "student_best.safetensors",
        weights.string());
  }
  OpenedModel opened{.card = card_of(description_of(metadata, weights.string()), weights.string()), .model = {}};
  opened.model = std::make_shared<MultimodalModel>(opened.card.spec);  // every value comes from the file
  load_model_weights(opened.model->named_weights(), weights);
  opened.model->eval();
  return opened;
}

}  // namespace mmkd
