#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace mmkd {

struct Token {
  std::string text;
  std::int32_t id;
};

/// What a tokenizer file holds, whichever its format: equal contents give equal vocabularies.
struct Vocabulary {
  std::vector<Token> pieces;    ///< what WordPiece may match, by id; continuations start with "##"
  std::vector<Token> literals;  ///< cut out of the raw text before anything else, by id ("[SEP]", …)
  std::int32_t unk_id = 0, cls_id = 0, sep_id = 0, pad_id = 0;
  std::int64_t size = 0;  ///< highest id + 1: the rows that an embedding table needs
};

/// `bytes` of a vocab.txt: one token a line, split at U+000A (a U+000D before it belongs to the line end), the id is
/// the line number from 0. `where` names the file in errors. Throws Error for an empty line, invalid UTF-8, a
/// duplicate, or a missing [UNK], [CLS], [SEP] or [PAD]. A vocabulary without [MASK] is accepted; "[MASK]" is then
/// ordinary text.
Vocabulary parse_vocab_txt(std::string_view bytes, std::string_view where);

/// `bytes` of a tokenizer.json with model.type WordPiece. Throws Error for malformed JSON, another kind of model,
/// parts that BERT's tokenizer does not have (another normalizer, pre-tokenizer or prefix, added tokens that are
/// matched after normalization), a duplicate token or id, or a missing special token as above.
Vocabulary parse_tokenizer_json(std::string_view bytes, std::string_view where);

}  // namespace mmkd
