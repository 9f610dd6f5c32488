#pragma once
#include "mmkd/backbones/text_backbone.h"
#include "mmkd/nn/transformer.h"

namespace mmkd {

/// In what the members of the BERT family differ.
struct BertVariant {
  std::string layers;  ///< name of the stack of layers, e.g. "encoder.layer."
  nn::TransformerNames names;
  bool token_types;             ///< has an embedding of token types
  bool drops_attention_output;  ///< hidden_dropout also behind the attention's output projection
};
BertVariant bert_variant();
BertVariant distilbert_variant();

/// BERT (Devlin et al., 2018) and DistilBERT (Sanh et al., 2019): post-norm transformers on learned positions.
class Bert final : public TextBackbone {
 public:
  Bert(const TextConfig& config, BertVariant variant);
  at::Tensor forward_features(const at::Tensor& input_ids, const at::Tensor& attention_mask,
                              const nn::ForwardContext& context) const override;
  at::Tensor forward(const at::Tensor& input_ids, const at::Tensor& attention_mask,
                     const nn::ForwardContext& context) const override;
  std::int64_t width() const override { return config_.hidden_size; }
  void collect_weights(const std::string& prefix, std::vector<nn::WeightEntry>& entries) const override;

 private:
  void check(const at::Tensor& input_ids, const at::Tensor& attention_mask) const;
  at::Tensor embed(const at::Tensor& input_ids, const nn::ForwardContext& context) const;

  TextConfig config_;
  BertVariant variant_;
  at::Tensor word_embeddings_;        // [vocabulary, D]
  at::Tensor position_embeddings_;    // [max positions, D]
  at::Tensor token_type_embeddings_;  // [types, D]; undefined without
  std::shared_ptr<nn::LayerNorm> norm_;
  std::shared_ptr<nn::Dropout> dropout_;
  std::shared_ptr<nn::Transformer> layers_;
};

}  // namespace mmkd
