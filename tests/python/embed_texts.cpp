// embed_texts MODEL TABLE OUT: sentence embeddings (mean over the tokens, scaled to length 1) of the captions of a
// MedPix table by the text tower of a Hugging Face folder, for check_sentence_embeddings.py.
#include <ATen/ATen.h>

#include <exception>
#include <iostream>
#include <nlohmann/json.hpp>

#include "mmkd/backbones/text_backbone.h"
#include "mmkd/base/error.h"
#include "mmkd/base/files.h"
#include "mmkd/data/prediction_rows.h"
#include "mmkd/text/tokenizer.h"
#include "mmkd/text/tokenizer_files.h"
#include "mmkd/weights/hf_config.h"
#include "mmkd/weights/load.h"
#include "mmkd/weights/names.h"
#include "mmkd/weights/tensors.h"

namespace {

using namespace mmkd;

constexpr std::int64_t kMaxLength = 256;

void embed(const fs::path& model, const fs::path& table, const fs::path& out) {
  const at::NoGradGuard no_grad;
  const auto config = text_config_from_hf(nlohmann::json::parse(read_file(model / "config.json")), model.string());
  const auto tower = make_text_backbone(config);
  load_backbone(tower->named_weights(), model, names_of(config.family));
  const auto tokenizer =
      WordPieceTokenizer::from_file(model / "vocab.txt", resolve_settings({}, read_tokenizer_settings(model)));
  std::vector<at::Tensor> embeddings;
  read_prediction_rows(
      table, {.id = "image", .image = "none", .text = "Description.Caption"}, table.parent_path(),
      [&](const PredictionRow& row) {
        const auto ids = tokenizer.encode(row.text, kMaxLength);
        const auto input = at::tensor(at::ArrayRef<std::int32_t>(ids)).to(at::kLong).unsqueeze(0);
        const auto hidden = tower->forward_features(input, at::ones_like(input, at::kBool), {});
        const auto mean = hidden.mean(1);
        embeddings.push_back(mean / mean.norm(2, 1, true));
      },
      [](const std::string& where, const std::string& what) { throw Error("{}: {}", where, what); });
  save_tensors(out, std::vector<NamedTensor>{{"embeddings", at::cat(embeddings)}});
}

}  // namespace

int main(int argc, char** argv) {
  try {
    if (argc != 4) throw Error("usage: embed_texts MODEL TABLE OUT");
    embed(argv[1], argv[2], argv[3]);
    return 0;
  } catch (const std::exception& error) {
    std::cerr << "embed_texts: " << error.what() << '\n';
    return 1;
  }
}
