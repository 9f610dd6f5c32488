// libFuzzer target: the bytes are a vocabulary file (tokenizer.json where they start with '{', else vocab.txt), and
// text. Malformed files must end in Error; whatever loads must keep the invariants of encode().
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "mmkd/base/error.h"
#include "src/text/vocabulary.h"
#include "src/text/wordpiece.h"

namespace {

using mmkd::WordPiece;

constexpr std::string_view small_vocabulary = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n##a\ne\n##e\n-\n";

void require(bool invariant) {
  if (!invariant) std::abort();
}

void check(const mmkd::Vocabulary& vocabulary, const WordPiece& model, std::string_view text) {
  const auto full = model.encode(text, static_cast<std::int64_t>(text.size()) * 4 + 2);
  require(full.size() >= 2 && full.front() == vocabulary.cls_id && full.back() == vocabulary.sep_id);
  require(std::ranges::all_of(full, [&](std::int32_t id) { return id >= 0 && id < vocabulary.size; }));
  constexpr std::int64_t short_length = 7;
  const auto truncated = model.encode(text, short_length);
  require(truncated.size() == std::min<std::size_t>(full.size(), short_length));
  require(std::equal(truncated.begin(), truncated.end() - 1, full.begin()));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const auto small = mmkd::parse_vocab_txt(small_vocabulary, "small");
  static const WordPiece uncased(small, {true, true, true}), keeping_accents(small, {true, false, false});
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  check(small, uncased, bytes);
  check(small, keeping_accents, bytes);
  try {
    const auto vocabulary =
        bytes.starts_with('{') ? mmkd::parse_tokenizer_json(bytes, "input") : mmkd::parse_vocab_txt(bytes, "input");
    check(vocabulary, WordPiece(vocabulary, {}), bytes);
  } catch (const mmkd::Error&) {  // what a malformed file must end in
  }
  return 0;
}
