#pragma once
#include "mmkd/backbones/text_backbone.h"
#include "mmkd/nn/activation.h"
#include "mmkd/nn/dropout.h"
#include "mmkd/nn/layers.h"

namespace mmkd {

/// MobileBERT's normalisation: x·weight + bias (no_norm), or a layer norm.
class MobileBertNorm : public torch::nn::Module {
 public:
  MobileBertNorm(std::int64_t width, double eps, bool no_norm);
  at::Tensor forward(const at::Tensor& x) const;
  void collect_weights(const std::string& prefix, std::vector<nn::WeightEntry>& entries) const;

 private:
  at::Tensor weight_, bias_;  // [width]
  double eps_;
  bool no_norm_;
};

/// A linear layer, a residual where there is one, and a norm; weights dense.… and LayerNorm.….
class MobileBertProjection : public torch::nn::Module {
 public:
  MobileBertProjection(std::int64_t inputs, std::int64_t outputs, double eps, bool no_norm, double dropout = 0);
  /// `residual` may be undefined.
  at::Tensor forward(const at::Tensor& x, const at::Tensor& residual, const nn::ForwardContext& context) const;
  void collect_weights(const std::string& prefix, const nn::InitScheme& scheme,
                       std::vector<nn::WeightEntry>& entries) const;

 private:
  std::shared_ptr<nn::Linear> dense_;
  std::shared_ptr<nn::Dropout> dropout_;
  std::shared_ptr<MobileBertNorm> norm_;
};

/// One layer: bottlenecks in, attention, feed-forward networks, bottleneck out.
class MobileBertLayer : public torch::nn::Module {
 public:
  explicit MobileBertLayer(const TextConfig& config);
  /// x [B, S, D], mask [B, 1, 1, S] bool -> [B, S, D]
  at::Tensor forward(const at::Tensor& x, const at::Tensor& mask, const nn::ForwardContext& context) const;
  void collect_weights(const std::string& prefix, const nn::InitScheme& scheme,
                       std::vector<nn::WeightEntry>& entries) const;

 private:
  struct FeedForward {
    std::shared_ptr<nn::Linear> in;
    std::shared_ptr<MobileBertProjection> out;
  };
  at::Tensor attend(const at::Tensor& query_key, const at::Tensor& value, const at::Tensor& mask) const;
  at::Tensor hidden(const FeedForward& network, const at::Tensor& x) const;

  MobileBertConfig config_;
  std::int64_t heads_;
  nn::Activation activation_;
  std::shared_ptr<nn::Linear> query_, key_, value_;
  std::shared_ptr<MobileBertProjection> attention_output_;
  std::shared_ptr<MobileBertProjection> input_bottleneck_, attention_bottleneck_, output_bottleneck_;  // or null
  std::vector<FeedForward> networks_;  // the last one's output has the bottleneck behind it
};

/// MobileBERT (Sun et al., 2020) as transformers' MobileBertModel.
class MobileBert final : public TextBackbone {
 public:
  explicit MobileBert(const TextConfig& config);
  at::Tensor forward_features(const at::Tensor& input_ids, const TextMask& attention_mask,
                              const nn::ForwardContext& context) const override;
  at::Tensor forward(const at::Tensor& input_ids, const TextMask& attention_mask,
                     const nn::ForwardContext& context) const override;
  std::int64_t width() const override { return config_.hidden_size; }
  const at::Tensor& word_embeddings() const override { return word_embeddings_; }
  void collect_weights(const std::string& prefix, std::vector<nn::WeightEntry>& entries) const override;

 private:
  at::Tensor embed(const at::Tensor& input_ids, const nn::ForwardContext& context) const;

  TextConfig config_;
  at::Tensor word_embeddings_;                  // [vocabulary, embedding_size]
  at::Tensor position_embeddings_;              // [max positions, D]
  at::Tensor token_type_embeddings_;            // [types, D]
  std::shared_ptr<nn::Linear> transformation_;  // null where words have the width D already
  std::shared_ptr<MobileBertNorm> norm_;
  std::shared_ptr<nn::Dropout> dropout_;
  std::vector<std::shared_ptr<MobileBertLayer>> layers_;
};

}  // namespace mmkd
