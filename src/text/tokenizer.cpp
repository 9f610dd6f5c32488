#include "mmkd/text/tokenizer.h"

#include "mmkd/base/error.h"
#include "mmkd/base/files.h"
#include "mmkd/base/hash.h"
#include "vocabulary.h"
#include "wordpiece.h"

namespace mmkd {
namespace {

/// Far above any real vocabulary (a multilingual tokenizer.json has 3 MB).
constexpr std::uint64_t largest_file = 256ULL << 20;

Vocabulary parse_vocabulary(const TokenizerText& text) {
  return text.name.ends_with(".json") ? parse_tokenizer_json(text.bytes, text.name)
                                      : parse_vocab_txt(text.bytes, text.name);
}

std::string digest_of(const Vocabulary& vocabulary, const WordPieceSettings& settings) {
  Sha256 hash;
  hash.update(fmt::format("wordpiece 1\nlower {:d} strip {:d} chinese {:d}\n", settings.do_lower_case,
                          settings.strip_accents, settings.tokenize_chinese_chars));
  for (const auto* tokens : {&vocabulary.pieces, &vocabulary.literals}) {
    hash.update(fmt::format("{} tokens\n", tokens->size()));
    for (const auto& token : *tokens)
      hash.update(fmt::format("{} {} ", token.id, token.text.size())).update(token.text);
  }
  return std::move(hash).hex();
}

}  // namespace

TokenizerText read_tokenizer_text(const std::filesystem::path& file) {
  return {file.string(), read_file(file, largest_file)};
}

struct WordPieceTokenizer::Impl {
  WordPiece model;
  std::int64_t vocab_size;
  std::int32_t pad_id;
  std::string digest;
};

WordPieceTokenizer WordPieceTokenizer::from_file(const std::filesystem::path& file, const WordPieceSettings& settings) {
  return from_text(read_tokenizer_text(file), settings);
}

WordPieceTokenizer WordPieceTokenizer::from_text(const TokenizerText& text, const WordPieceSettings& settings) {
  const auto vocabulary = parse_vocabulary(text);
  return WordPieceTokenizer(std::make_unique<const Impl>(
      Impl{WordPiece(vocabulary, settings), vocabulary.size, vocabulary.pad_id, digest_of(vocabulary, settings)}));
}

WordPieceTokenizer::WordPieceTokenizer(std::unique_ptr<const Impl> impl) : impl_(std::move(impl)) {}
WordPieceTokenizer::WordPieceTokenizer(WordPieceTokenizer&&) noexcept = default;
WordPieceTokenizer& WordPieceTokenizer::operator=(WordPieceTokenizer&&) noexcept = default;
WordPieceTokenizer::~WordPieceTokenizer() = default;

std::vector<std::int32_t> WordPieceTokenizer::encode(std::string_view utf8, std::int64_t max_length) const {
  return impl_->model.encode(utf8, max_length);
}

std::int64_t WordPieceTokenizer::vocab_size() const { return impl_->vocab_size; }
std::int32_t WordPieceTokenizer::pad_id() const { return impl_->pad_id; }
const WordPieceSettings& WordPieceTokenizer::settings() const { return impl_->model.settings(); }
const std::string& WordPieceTokenizer::digest() const { return impl_->digest; }

}  // namespace mmkd
