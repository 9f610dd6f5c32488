#include "mmkd/text/tokenizer_files.h"

#include <nlohmann/json.hpp>
#include <string_view>

#include "mmkd/base/error.h"
#include "mmkd/base/files.h"
#include "mmkd/config/config.h"

namespace mmkd {
namespace {

using nlohmann::json;

json read_json_object(const fs::path& file) {
  json document;
  try {
    document = json::parse(read_file(file));
  } catch (const json::exception& e) {
    throw Error("{}: is no valid JSON ({})", file.string(), e.what());
  }
  if (!document.is_object()) throw Error("{}: is {}, expected a JSON object", file.string(), document.type_name());
  return document;
}

/// Fills `setting` from a member of `object`, unless it is filled already or the member is absent or null.
void fill(std::optional<bool>& setting, const json& object, const char* key, const fs::path& file) {
  const auto member = object.find(key);
  if (setting || member == object.end() || member->is_null()) return;
  if (!member->is_boolean()) {
    throw Error("{}: {} is {}, expected true, false or null", file.string(), key, member->dump());
  }
  setting = member->get<bool>();
}

void fill_from_tokenizer_config(TokenizerFileSettings& settings, const fs::path& file) {
  const auto document = read_json_object(file);
  fill(settings.do_lower_case, document, "do_lower_case", file);
  fill(settings.strip_accents, document, "strip_accents", file);
  fill(settings.tokenize_chinese_chars, document, "tokenize_chinese_chars", file);
}

void fill_from_tokenizer_json(TokenizerFileSettings& settings, const fs::path& file) {
  const auto document = read_json_object(file);
  const auto normalizer = document.find("normalizer");
  if (normalizer == document.end() || !normalizer->is_object()) return;
  fill(settings.do_lower_case, *normalizer, "lowercase", file);
  fill(settings.strip_accents, *normalizer, "strip_accents", file);
  fill(settings.tokenize_chinese_chars, *normalizer, "handle_chinese_chars", file);
}

}  // namespace

fs::path find_tokenizer_file(const fs::path& folder) {
  if (!fs::is_directory(folder)) throw Error("{}: is no folder, expected one that holds a tokenizer", folder.string());
  for (const auto* name : {"vocab.txt", "tokenizer.json"}) {
    if (fs::is_regular_file(folder / name)) return folder / name;
  }
  for (const auto* name : {"vocab.json", "merges.txt", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model"}) {
    if (fs::exists(folder / name)) {
      throw Error(
          "{}: holds {}, so its tokenizer is BPE or SentencePiece; only WordPiece (vocab.txt or tokenizer.json) is "
          "supported",
          folder.string(), name);
    }
  }
  throw Error(
      "{}: holds no tokenizer; looked for vocab.txt and tokenizer.json. Copy one of them there from the model's "
      "page",
      folder.string());
}

TokenizerFileSettings read_tokenizer_settings(const fs::path& place) {
  const bool is_folder = fs::is_directory(place);
  const auto folder = is_folder ? place : place.parent_path();
  TokenizerFileSettings settings;
  if (const auto file = folder / "tokenizer_config.json"; fs::is_regular_file(file)) {
    fill_from_tokenizer_config(settings, file);
  }
  const auto file = !is_folder && place.extension() == ".json" ? place : folder / "tokenizer.json";
  if (fs::is_regular_file(file)) fill_from_tokenizer_json(settings, file);
  return settings;
}

WordPieceSettings resolve_settings(const TokenizerConfig& config, const TokenizerFileSettings& files) {
  const auto first_of = [](std::optional<bool> a, std::optional<bool> b, bool otherwise) {
    return a ? *a : b.value_or(otherwise);
  };
  WordPieceSettings settings;
  settings.do_lower_case = first_of(config.do_lower_case, files.do_lower_case, true);
  settings.strip_accents = first_of(config.strip_accents, files.strip_accents, settings.do_lower_case);
  settings.tokenize_chinese_chars = first_of(config.tokenize_chinese_chars, files.tokenize_chinese_chars, true);
  return settings;
}

}  // namespace mmkd
