#include "mmkd/weights/export.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "mmkd/base/error.h"
#include "mmkd/base/files.h"
#include "mmkd/weights/hf_config.h"
#include "mmkd/weights/tensors.h"

namespace mmkd {
namespace {

void write_json(const fs::path& file, const nlohmann::ordered_json& json) {
  write_file_atomic(file, json.dump(2) + "\n");
}

void write_weights(const fs::path& folder, std::span<const nn::WeightEntry> entries) {
  std::vector<NamedTensor> tensors;
  for (const auto& entry : entries) {
    tensors.push_back({entry.name, entry.view});
    // transformers looks for the counter of every batch norm, which nothing uses.
    constexpr std::string_view kRunningMean = "running_mean";
    if (entry.name.ends_with(kRunningMean)) {
      const auto prefix = entry.name.substr(0, entry.name.size() - kRunningMean.size());
      tensors.push_back({prefix + "num_batches_tracked", at::zeros({}, at::kLong)});
    }
  }
  save_tensors(folder / "model.safetensors", tensors, {{"format", "pt"}});
}

std::vector<std::string> tokens_of_vocab_txt(std::string_view text) {
  if (!text.empty() && text.back() == '\n') text.remove_suffix(1);
  std::vector<std::string> tokens;
  std::size_t begin = 0;
  while (begin <= text.size()) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    std::string token(text.substr(begin, end - begin));
    if (!token.empty() && token.back() == '\r') token.pop_back();
    tokens.push_back(std::move(token));
    begin = end + 1;
  }
  return tokens;
}

std::vector<std::string> tokens_of_tokenizer_json(const TokenizerText& tokenizer) {
  try {
    const auto json = nlohmann::json::parse(tokenizer.bytes);
    const auto& vocabulary = json.at("model").at("vocab");
    std::vector<std::string> tokens(vocabulary.size());
    std::vector<bool> taken(vocabulary.size());
    for (const auto& [token, id] : vocabulary.items()) {
      const auto place = id.get<std::uint64_t>();
      if (place >= tokens.size() || taken[place]) {
        throw Error("{}: the ids of its vocabulary are not 0 to {}, each once", tokenizer.name, tokens.size() - 1);
      }
      tokens[place] = token;
      taken[place] = true;
    }
    return tokens;
  } catch (const nlohmann::json::exception& error) {
    throw Error("{}: no valid tokenizer.json: {}", tokenizer.name, error.what());
  }
}

std::int64_t embedding_rows(const TextTower& tower) {
  const auto found = std::find_if(tower.entries.begin(), tower.entries.end(),
                                  [](const auto& entry) { return entry.name == "embeddings.word_embeddings.weight"; });
  if (found == tower.entries.end()) throw Error("the text tower has no embeddings.word_embeddings.weight to export");
  return found->view.size(0);
}

std::int64_t pad_id_of(const std::vector<std::string>& tokens, const std::string& file) {
  const auto pad = std::find(tokens.begin(), tokens.end(), "[PAD]");
  if (pad == tokens.end()) throw Error("{}: has no token [PAD]", file);
  return pad - tokens.begin();
}

nlohmann::ordered_json tokenizer_config(const TextTower& tower) {
  const bool distilbert = tower.config.family == TextFamily::distilbert;
  return {{"tokenizer_class", distilbert ? "DistilBertTokenizer" : "BertTokenizer"},
          {"do_lower_case", tower.settings.do_lower_case},
          {"strip_accents", tower.settings.strip_accents},
          {"tokenize_chinese_chars", tower.settings.tokenize_chinese_chars},
          {"model_max_length", tower.max_length},
          {"unk_token", "[UNK]"},
          {"sep_token", "[SEP]"},
          {"pad_token", "[PAD]"},
          {"cls_token", "[CLS]"},
          {"mask_token", "[MASK]"}};
}

}  // namespace

std::vector<std::string> vocabulary_of(const TokenizerText& tokenizer) {
  return tokenizer.name.ends_with(".json") ? tokens_of_tokenizer_json(tokenizer) : tokens_of_vocab_txt(tokenizer.bytes);
}

void export_vision_tower(const fs::path& folder, const VisionTower& tower) {
  AtomicFolder out(folder);
  write_json(out.path() / "config.json", to_hf_json(tower.config));
  write_json(out.path() / "preprocessor_config.json", to_hf_json(tower.policy));
  write_weights(out.path(), tower.entries);
  std::move(out).commit(/*replace=*/true);
}

void export_text_tower(const fs::path& folder, const TextTower& tower) {
  const auto tokens = vocabulary_of(tower.tokenizer);
  TextConfig config = tower.config;
  config.vocab_size = embedding_rows(tower);
  if (static_cast<std::int64_t>(tokens.size()) > config.vocab_size) {
    throw Error("{}: has {} tokens, the tower's word embedding {} rows", tower.tokenizer.name, tokens.size(),
                config.vocab_size);
  }
  // RoBERTa counts its positions from the padding's number, which is part of the weights.
  if (config.family != TextFamily::roberta) config.pad_token_id = pad_id_of(tokens, tower.tokenizer.name);
  AtomicFolder out(folder);
  write_json(out.path() / "config.json", to_hf_json(config));
  write_json(out.path() / "tokenizer_config.json", tokenizer_config(tower));
  write_file_atomic(out.path() / "vocab.txt", fmt::format("{}\n", fmt::join(tokens, "\n")));
  write_weights(out.path(), tower.entries);
  std::move(out).commit(/*replace=*/true);
}

}  // namespace mmkd
