#pragma once
#include <optional>

#include "mmkd/backbones/text_backbone.h"
#include "mmkd/nn/transformer.h"

namespace mmkd {

/// In what the members of the BERT family differ.
struct BertVariant {
  std::string layers;  ///< name of the stack of layers, e.g. "encoder.layer."
  nn::TransformerNames names;
  bool token_types = false;             ///< has an embedding of token types
  bool drops_attention_output = false;  ///< hidden_dropout also behind the attention's output projection
  bool counts_from_padding = false;     ///< positions count real tokens and start behind pad_token_id
  /// `before`: norms before each sublayer, and one behind the last layer instead of behind the embeddings.
  nn::NormPlacement norm = nn::NormPlacement::after;
};
BertVariant bert_variant();
BertVariant distilbert_variant();
BertVariant roberta_variant();
/// The text tower of the original system's custom student: pre-norm, learned positions, no token types.
BertVariant custom_text_variant();

/// Throws UsageError for sizes of the embeddings that cannot be built.
void check_text_config(const TextConfig& config, bool token_types);
/// Throws Error for tensors of other shapes or types than a tower takes, and for texts of more than `longest` tokens.
void check_text_input(const at::Tensor& input_ids, const at::Tensor& attention_mask, std::int64_t longest);

/// Transformers on learned positions: BERT (Devlin et al., 2018), DistilBERT (Sanh et al., 2019) and RoBERTa (Liu et
/// al., 2019), which put norms behind their sublayers, and the pre-norm custom tower.
class Bert final : public TextBackbone {
 public:
  Bert(const TextConfig& config, BertVariant variant);
  at::Tensor forward_features(const at::Tensor& input_ids, const TextMask& attention_mask,
                              const nn::ForwardContext& context) const override;
  at::Tensor forward(const at::Tensor& input_ids, const TextMask& attention_mask,
                     const nn::ForwardContext& context) const override;
  std::int64_t width() const override { return config_.hidden_size; }
  const at::Tensor& word_embeddings() const override { return word_embeddings_; }
  void collect_weights(const std::string& prefix, std::vector<nn::WeightEntry>& entries) const override;

 private:
  at::Tensor embed(const at::Tensor& input_ids, const nn::ForwardContext& context) const;
  at::Tensor positions(const at::Tensor& input_ids) const;
  at::Tensor after_layers(const at::Tensor& x) const;
  std::optional<nn::TokenLayout> packed_layout(const at::Tensor& input_ids, const TextMask& attention_mask) const;
  at::Tensor embed_packed(const at::Tensor& input_ids, const nn::TokenLayout& layout,
                          const nn::ForwardContext& context) const;

  TextConfig config_;
  BertVariant variant_;
  at::Tensor word_embeddings_;           // [vocabulary, D]
  at::Tensor position_embeddings_;       // [max positions, D]
  at::Tensor token_type_embeddings_;     // [types, D]; undefined without
  std::shared_ptr<nn::LayerNorm> norm_;  // behind the embeddings; with pre-norm layers behind the last
  std::shared_ptr<nn::Dropout> dropout_;
  std::shared_ptr<nn::Transformer> layers_;
};

}  // namespace mmkd
