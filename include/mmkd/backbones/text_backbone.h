#pragma once
#include <ATen/ATen.h>
#include <torch/nn/module.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "mmkd/config/config.h"
#include "mmkd/nn/context.h"
#include "mmkd/nn/weight_entry.h"

namespace mmkd {

// B batch, S tokens, D width of the tower

/// Which tokens of a batch are real.
struct TextMask {
  // NOLINTNEXTLINE(google-explicit-constructor,hicpp-explicit-conversions): a mask alone says it too
  TextMask(at::Tensor of_tokens, at::Tensor of_texts = {}) : mask(std::move(of_tokens)), lengths(std::move(of_texts)) {}
  at::Tensor mask;     ///< [B, S] bool, true at real tokens
  at::Tensor lengths;  ///< [B] int64 on the CPU: their numbers, where they are the first of each text; may be undefined
};

/// A text tower: token sequences to one feature vector each. All tokens are of type 0.
class TextBackbone : public torch::nn::Module {
 public:
  /// input_ids [B, S] int64, right-padded -> [B, S, D]. Rows of padding have no meaning. Throws Error if S exceeds the
  /// positions that the tower has.
  virtual at::Tensor forward_features(const at::Tensor& input_ids, const TextMask& attention_mask,
                                      const nn::ForwardContext& context) const = 0;
  /// -> [B, D]: row 0 of forward_features(), [CLS], without computing the other rows of the last layer.
  virtual at::Tensor forward(const at::Tensor& input_ids, const TextMask& attention_mask,
                             const nn::ForwardContext& context) const = 0;
  virtual std::int64_t width() const = 0;
  /// The parameter [vocabulary, …] of which a batch uses the rows of its tokens, and nothing else.
  virtual const at::Tensor& word_embeddings() const = 0;
  /// Appends every parameter under `prefix` + its name in a Hugging Face checkpoint of the bare tower.
  virtual void collect_weights(const std::string& prefix, std::vector<nn::WeightEntry>& entries) const = 0;
  std::vector<nn::WeightEntry> named_weights() const;
};

/// A tower of the configured size, with uninitialised values: nn::initialize(named_weights()) or a checkpoint fills
/// them. bert is BertModel, distilbert is DistilBertModel, mobilebert is MobileBertModel, roberta is RobertaModel; none
/// has a pooler. custom_text is the original system's: pre-norm layers and a last layer norm on word and position
/// embeddings. The row of pad_token_id in the word embedding gets no gradient. Throws UsageError for sizes that cannot
/// be built (vocab_size 0 among them).
std::shared_ptr<TextBackbone> make_text_backbone(const TextConfig& config);

/// Columns of padding that a batch must have at least. MobileBERT's trigrams reach into the padding, so what it gives
/// for a text would depend on the texts beside it otherwise.
std::int64_t min_padding(const TextConfig& config);

/// The longest text in tokens that the tower takes, required padding left out.
std::int64_t longest_text(const TextConfig& config);

}  // namespace mmkd
