#include "bert.h"
#include "mmkd/backbones/text_backbone.h"
#include "mmkd/base/error.h"
#include "mobilebert.h"

namespace mmkd {

std::vector<nn::WeightEntry> TextBackbone::named_weights() const {
  std::vector<nn::WeightEntry> entries;
  collect_weights("", entries);
  return entries;
}

std::shared_ptr<TextBackbone> make_text_backbone(const TextConfig& config) {
  switch (config.family) {
    case TextFamily::bert:
      return std::make_shared<Bert>(config, bert_variant());
    case TextFamily::distilbert:
      return std::make_shared<Bert>(config, distilbert_variant());
    case TextFamily::roberta:
      return std::make_shared<Bert>(config, roberta_variant());
    case TextFamily::custom_text:
      return std::make_shared<Bert>(config, custom_text_variant());
    case TextFamily::mobilebert:
      return std::make_shared<MobileBert>(config);
  }
  throw Error("text tower: family {} is none of the known", static_cast<int>(config.family));
}

std::int64_t min_padding(const TextConfig& config) {
  return config.family == TextFamily::mobilebert && config.mobilebert.trigram_input ? 1 : 0;
}

std::int64_t longest_text(const TextConfig& config) {
  const std::int64_t skipped = config.family == TextFamily::roberta ? config.pad_token_id + 1 : 0;
  return config.max_position_embeddings - skipped - min_padding(config);
}

}  // namespace mmkd
