#pragma once
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "mmkd/image/image.h"
#include "mmkd/models/multimodal_model.h"
#include "mmkd/text/tokenizer.h"
#include "mmkd/weights/save.h"

namespace mmkd {

/// Everything that a trained model needs to be used. It lies in the metadata of the weights file, so that one file is
/// enough and nothing of it can be mixed up.
struct ModelCard {
  ModelSpec spec;                      ///< its tasks have the slugs of `tasks`
  std::string vision_name, text_name;  ///< for people
  ImagePolicy policy;                  ///< how pictures become its input
  TokenizerText tokenizer;             ///< vocab.txt or tokenizer.json, whole; empty: the model reads no text
  WordPieceSettings tokenizer_settings;
  std::int64_t max_length = 0;  ///< tokens of a text, both special ones included
  std::vector<TaskClasses> tasks;
};

/// As ModelDescription::model (docs/formats/weights.md). Not kept: what counts in training only.
std::string to_json_text(const ModelCard& card);
/// The way back; `where` starts each error. Throws Error for anything that to_json_text() does not write, sizes that do
/// not fit, and names of tasks that do not belong to the description's.
ModelCard card_of(const ModelDescription& description, const std::string& where);

/// A model from one file, ready to be used.
struct OpenedModel {
  ModelCard card;
  std::shared_ptr<MultimodalModel> model;  ///< on the CPU, in evaluation mode
};
/// Throws UsageError for a file that says nothing about its model (it must be a .safetensors that mmkd wrote), and
/// Error for weights that do not fit it.
OpenedModel open_model(const std::filesystem::path& weights);

}  // namespace mmkd
