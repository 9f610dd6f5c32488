#include "vocabulary.h"

#include <algorithm>
#include <array>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <unordered_map>
#include <unordered_set>

#include "mmkd/base/error.h"
#include "utf8.h"

namespace mmkd {
namespace {

using nlohmann::json;

constexpr std::array<std::string_view, 5> special_names = {"[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"};

/// Checks what both formats have in common, finds the special tokens and brings everything into the order of the ids.
class VocabularyBuilder {
 public:
  explicit VocabularyBuilder(std::string_view where) : where_(where) {}

  void add_piece(std::string text, std::int32_t id, std::string_view place) {
    if (const auto [known, fresh] = ids_.emplace(text, id); !fresh) {
      throw Error("{}, {}: the token '{}' is there twice, with ids {} and {}; remove one of them", where_, place, text,
                  known->second, id);
    }
    claim_id(id, text, place);
    vocabulary_.pieces.push_back({std::move(text), id});
  }

  /// A token that is cut out of the raw text; it may be a piece too, with the same id.
  void add_literal(std::string text, std::int32_t id, std::string_view place) {
    if (text.empty()) throw Error("{}, {}: an added token is empty; remove it", where_, place);
    const auto piece = ids_.find(text);
    if (piece != ids_.end() && piece->second != id) {
      throw Error("{}, {}: the added token '{}' has id {}, but the vocabulary gives it {}; make them equal", where_,
                  place, text, id, piece->second);
    }
    if (!literal_texts_.insert(text).second) {
      throw Error("{}, {}: the added token '{}' is there twice; remove one of them", where_, place, text);
    }
    if (piece == ids_.end()) claim_id(id, text, place);
    vocabulary_.literals.push_back({std::move(text), id});
  }

  Vocabulary finish() && {
    find_special_tokens();
    const auto by_id = [](const Token& a, const Token& b) { return a.id < b.id; };
    std::ranges::sort(vocabulary_.pieces, by_id);
    std::ranges::sort(vocabulary_.literals, by_id);
    return std::move(vocabulary_);
  }

 private:
  void claim_id(std::int32_t id, const std::string& text, std::string_view place) {
    if (!claimed_.insert(id).second) {
      throw Error("{}, {}: '{}' has id {}, which another token has already; ids must be unique", where_, place, text,
                  id);
    }
    vocabulary_.size = std::max<std::int64_t>(vocabulary_.size, std::int64_t{id} + 1);
  }

  std::optional<std::int32_t> id_of(std::string_view text) const {
    if (const auto piece = ids_.find(std::string(text)); piece != ids_.end()) return piece->second;
    for (const auto& literal : vocabulary_.literals) {
      if (literal.text == text) return literal.id;
    }
    return std::nullopt;
  }

  void find_special_tokens() {
    std::string missing;
    for (const auto name : special_names) {
      if (const auto id = id_of(name)) {
        if (literal_texts_.emplace(name).second) vocabulary_.literals.push_back({std::string(name), *id});
      } else if (name != "[MASK]") {
        if (!missing.empty()) missing += ' ';
        missing += name;
      }
    }
    if (!missing.empty()) {
      throw Error("{}: lacks {}; a BERT vocabulary (WordPiece) has [UNK] [CLS] [SEP] [PAD]", where_, missing);
    }
    vocabulary_.unk_id = *id_of("[UNK]");
    vocabulary_.cls_id = *id_of("[CLS]");
    vocabulary_.sep_id = *id_of("[SEP]");
    vocabulary_.pad_id = *id_of("[PAD]");
  }

  std::string_view where_;
  Vocabulary vocabulary_;
  std::unordered_map<std::string, std::int32_t> ids_;  // of the pieces
  std::unordered_set<std::string> literal_texts_;
  std::unordered_set<std::int32_t> claimed_;
};

std::string kind_of(const json& value) { return value.is_null() ? "null" : value.type_name(); }

/// Reads a JSON object step by step, with errors that name the path of what is wrong.
class JsonPart {
 public:
  JsonPart(const json& value, std::string path, std::string_view where)
      : value_(value), path_(std::move(path)), where_(where) {
    if (!value_.is_object()) throw Error("{}: {} is {}, expected an object", where_, path_, kind_of(value_));
  }

  const json* find(const char* key) const {
    const auto member = value_.find(key);
    return member == value_.end() || member->is_null() ? nullptr : &*member;
  }

  const json& get(const char* key) const {
    if (const auto* member = find(key)) return *member;
    throw Error("{}: {} has no '{}'", where_, path_, key);
  }

  JsonPart part(const char* key) const { return {get(key), path_ + "." + key, where_}; }

  std::string string(const char* key) const {
    const auto& member = get(key);
    if (!member.is_string()) throw Error("{}: {}.{} is {}, expected a string", where_, path_, key, kind_of(member));
    return member.get<std::string>();
  }

  std::int32_t id(const char* key) const { return as_id(get(key), path_ + "." + key, where_); }

  /// Throws unless the member, where present, has the one value that BERT's tokenizer has.
  void require(const char* key, const json& expected) const {
    const auto* member = find(key);
    if (member != nullptr && *member != expected) {
      throw Error("{}: {}.{} is {}, only {} is supported", where_, path_, key, member->dump(), expected.dump());
    }
  }

  static std::int32_t as_id(const json& value, const std::string& path, std::string_view where) {
    constexpr auto highest = std::numeric_limits<std::int32_t>::max() - 1;
    if (!value.is_number_unsigned() || value.get<std::uint64_t>() > static_cast<std::uint64_t>(highest)) {
      throw Error("{}: {} is {}, expected an id (0 … {})", where, path, value.dump(), highest);
    }
    return value.get<std::int32_t>();
  }

 private:
  const json& value_;
  std::string path_;
  std::string_view where_;
};

/// The parsed text. A token that occurs twice in model.vocab is an error, where JSON parsers keep the last silently.
json parse_json(std::string_view bytes, std::string_view where) {
  std::vector<std::string> path;  // of keys, from the root to the one just read
  std::unordered_set<std::string> tokens;
  const auto reject_duplicates = [&](int depth, json::parse_event_t event, const json& parsed) {
    if (event != json::parse_event_t::key) return true;
    path.resize(static_cast<std::size_t>(depth));
    path.back() = parsed.get<std::string>();
    if (depth == 3 && path[0] == "model" && path[1] == "vocab" && !tokens.insert(path[2]).second) {
      throw Error("{}, model.vocab: the token '{}' is there twice; remove one of them", where, path[2]);
    }
    return true;
  };
  try {
    return json::parse(bytes, reject_duplicates);
  } catch (const json::exception& e) {
    throw Error("{}: is no valid JSON ({})", where, e.what());
  }
}

/// Files of older versions of tokenizers have no model.type.
std::string model_type(const JsonPart& model) {
  if (model.find("type") != nullptr) return model.string("type");
  if (model.find("merges") != nullptr) return "BPE";
  const auto* vocab = model.find("vocab");
  return vocab != nullptr && vocab->is_array() ? "Unigram" : "WordPiece";
}

void require_bert_pipeline(const JsonPart& root, const JsonPart& model, std::string_view where) {
  if (const auto type = model_type(model); type != "WordPiece") {
    throw Error("{}: model.type is {}, only WordPiece (the tokenizer of BERT and DistilBERT) is supported", where,
                type);
  }
  model.require("unk_token", "[UNK]");
  model.require("continuing_subword_prefix", "##");
  model.require("max_input_chars_per_word", 100);
  const auto normalizer = root.part("normalizer");
  normalizer.require("type", "BertNormalizer");
  normalizer.require("clean_text", true);
  root.part("pre_tokenizer").require("type", "BertPreTokenizer");
}

void add_added_tokens(const JsonPart& root, std::string_view where, VocabularyBuilder& builder) {
  const auto* added = root.find("added_tokens");
  if (added == nullptr) return;
  if (!added->is_array()) throw Error("{}: added_tokens is {}, expected an array", where, kind_of(*added));
  for (std::size_t i = 0; i < added->size(); ++i) {
    const auto place = fmt::format("added_tokens[{}]", i);
    const JsonPart token((*added)[i], place, where);
    for (const auto* flag : {"single_word", "lstrip", "rstrip", "normalized"}) token.require(flag, false);
    builder.add_literal(token.string("content"), token.id("id"), place);
  }
}

}  // namespace

Vocabulary parse_vocab_txt(std::string_view bytes, std::string_view where) {
  if (bytes.starts_with("\xEF\xBB\xBF")) {
    throw Error("{}: starts with a byte order mark, which would belong to the first token; save it without one", where);
  }
  VocabularyBuilder builder(where);
  std::int32_t id = 0;
  while (!bytes.empty()) {
    const auto end = std::min(bytes.find('\n'), bytes.size());
    auto token = bytes.substr(0, end);
    bytes.remove_prefix(std::min(end + 1, bytes.size()));
    if (token.ends_with('\r')) token.remove_suffix(1);
    const auto place = fmt::format("line {}", id + 1);
    if (token.empty()) throw Error("{}, {}: is empty, expected a token; remove the line", where, place);
    if (!utf8::is_valid(token)) throw Error("{}, {}: is not valid UTF-8", where, place);
    builder.add_piece(std::string(token), id++, place);
  }
  return std::move(builder).finish();
}

Vocabulary parse_tokenizer_json(std::string_view bytes, std::string_view where) {
  const json document = parse_json(bytes, where);
  const JsonPart root(document, "the document", where);
  const auto* model_value = root.find("model");
  if (model_value == nullptr) {
    throw Error(
        "{}: has no 'model', so it is no tokenizer.json; only WordPiece (vocab.txt or tokenizer.json) is supported",
        where);
  }
  const JsonPart model(*model_value, "model", where);
  require_bert_pipeline(root, model, where);
  const auto& vocab = model.get("vocab");
  if (!vocab.is_object()) throw Error("{}: model.vocab is {}, expected an object", where, kind_of(vocab));
  VocabularyBuilder builder(where);
  for (const auto& [token, id] : vocab.items()) {
    const auto place = fmt::format("model.vocab['{}']", token);
    builder.add_piece(token, JsonPart::as_id(id, place, where), place);
  }
  add_added_tokens(root, where, builder);
  return std::move(builder).finish();
}

}  // namespace mmkd
