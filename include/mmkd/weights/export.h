#pragma once
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "mmkd/config/config.h"
#include "mmkd/image/image.h"
#include "mmkd/nn/weight_entry.h"
#include "mmkd/text/tokenizer.h"

// Towers as Hugging Face folders, which transformers reads: ViTModel, DeiTModel, BertModel and DistilBertModel
// .from_pretrained(folder, add_pooling_layer=False) give the same outputs (DistilBertModel has no such argument).
namespace mmkd {

struct VisionTower {
  VisionConfig config;
  std::span<const nn::WeightEntry> entries;  ///< named as in a checkpoint
  ImagePolicy policy;
};

struct TextTower {
  TextConfig config;  ///< vocab_size and pad_token_id are taken from the embedding and the vocabulary
  std::span<const nn::WeightEntry> entries;
  TokenizerText tokenizer;  ///< that the tower was trained with
  WordPieceSettings settings;
  std::int64_t max_length = 512;  ///< model_max_length of the exported tokenizer
};

/// Writes config.json, model.safetensors and preprocessor_config.json. The folder appears whole, or not at all; one
/// that is there already is replaced.
void export_vision_tower(const std::filesystem::path& folder, const VisionTower& tower);

/// Writes config.json, model.safetensors, vocab.txt and tokenizer_config.json, as export_vision_tower() does. Throws
/// Error if the vocabulary is larger than the word embedding or has no [PAD].
void export_text_tower(const std::filesystem::path& folder, const TextTower& tower);

/// The tokens of vocab.txt, or of a tokenizer.json with a WordPiece vocabulary, in the order of their ids. Throws Error
/// for malformed files and ids that are not 0, 1, 2, ….
std::vector<std::string> vocabulary_of(const TokenizerText& tokenizer);

}  // namespace mmkd
