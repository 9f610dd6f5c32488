#include "wordpiece.h"

#include <algorithm>

#include "mmkd/base/error.h"
#include "unicode_tables.h"
#include "word_splitter.h"

namespace mmkd {
namespace {

constexpr std::string_view continuation_prefix = "##";

/// Bytes of the longest piece that can match: a whole word of four-byte code points behind the prefix.
constexpr std::size_t longest_piece = continuation_prefix.size() + 4 * WordPiece::longest_word;

}  // namespace

WordPiece::WordPiece(const Vocabulary& vocabulary, const WordPieceSettings& settings)
    : settings_(settings),
      trie_(vocabulary.pieces, longest_piece),
      continuation_(trie_.walk(continuation_prefix)),
      literals_(vocabulary.literals),
      unk_id_(vocabulary.unk_id),
      cls_id_(vocabulary.cls_id),
      sep_id_(vocabulary.sep_id) {
  std::ranges::stable_sort(literals_, std::ranges::greater{}, [](const Token& t) { return t.text.size(); });
  for (const auto& literal : literals_) starts_literal_[static_cast<unsigned char>(literal.text.front())] = true;
  prepare_ascii();
}

void WordPiece::prepare_ascii() {
  for (std::size_t c = 0; c < ascii_actions_.size(); ++c) {
    const auto code_point = static_cast<char32_t>(c);
    const auto flags = unicode::properties(code_point).flags;
    const bool lowers = settings_.do_lower_case && (flags & unicode::lowers);
    ascii_appended_[c] = static_cast<char>(lowers ? unicode::lower_case(code_point).front() : code_point);
    if (flags & unicode::removed) {
      ascii_actions_[c] = AsciiAction::remove;
    } else if (flags & (unicode::space | unicode::separator)) {
      ascii_actions_[c] = AsciiAction::end_word;
    } else if (flags & unicode::punctuation) {
      ascii_actions_[c] = AsciiAction::punctuation;
    } else {
      ascii_actions_[c] = AsciiAction::append;
    }
  }
}

std::vector<std::int32_t> WordPiece::encode(std::string_view utf8, std::int64_t max_length) const {
  if (max_length < 2) {
    throw Error("max_length is {}, expected at least 2: [CLS] and [SEP] are always there", max_length);
  }
  const auto limit = static_cast<std::size_t>(max_length) - 1;  // room for [SEP]
  constexpr std::size_t bytes_per_id = 3;                       // fewer than most captions have: no reallocation
  std::vector<std::int32_t> ids;
  ids.reserve(std::min(limit, utf8.size() / bytes_per_id + 1) + 1);
  ids.push_back(cls_id_);
  WordSplitter(*this, limit, ids).run(utf8);
  if (ids.size() > limit) ids.resize(limit);
  ids.push_back(sep_id_);
  return ids;
}

void WordPiece::append_pieces(std::string_view word, std::vector<std::int32_t>& ids) const {
  const auto before = ids.size();
  for (auto state = PieceTrie::root; !word.empty(); state = continuation_) {
    const auto match = trie_.longest_match(state, word);
    if (match.size == 0) {
      ids.resize(before);
      ids.push_back(unk_id_);
      return;
    }
    ids.push_back(match.id);
    word.remove_prefix(match.size);
  }
}

const Token* WordPiece::literal_at(std::string_view text) const {
  const auto literal = std::ranges::find_if(literals_, [&](const Token& t) { return text.starts_with(t.text); });
  return literal == literals_.end() ? nullptr : &*literal;
}

}  // namespace mmkd
