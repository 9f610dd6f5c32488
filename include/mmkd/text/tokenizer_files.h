#pragma once
#include <filesystem>
#include <optional>

#include "mmkd/text/tokenizer.h"

namespace mmkd {

struct TokenizerConfig;

/// What a tokenizer's own files say about its settings; empty where they say nothing (or null).
struct TokenizerFileSettings {
  std::optional<bool> do_lower_case;
  std::optional<bool> strip_accents;
  std::optional<bool> tokenize_chinese_chars;
};

/// The file of a Hugging Face folder to read the vocabulary from: vocab.txt, else tokenizer.json. Throws Error naming
/// the files looked for, and saying so where the folder holds another kind of tokenizer (BPE, SentencePiece).
std::filesystem::path find_tokenizer_file(const std::filesystem::path& folder);

/// Settings beside the vocabulary: of tokenizer_config.json, and those it leaves open from tokenizer.json (normalizer).
/// `place` is a folder or a tokenizer file; of a file its own folder is looked at, and the file itself if it is a
/// tokenizer.json by another name. Absent files leave everything empty; throws Error for malformed ones.
TokenizerFileSettings read_tokenizer_settings(const std::filesystem::path& place);

/// The settings to use: the config's, else the files', else BERT's (lower-case, split Chinese characters); accents are
/// stripped where text is lower-cased, unless someone says otherwise.
WordPieceSettings resolve_settings(const TokenizerConfig& config, const TokenizerFileSettings& files);

}  // namespace mmkd
