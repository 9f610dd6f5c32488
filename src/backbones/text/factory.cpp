#include "bert.h"
#include "mmkd/backbones/text_backbone.h"
#include "mmkd/base/error.h"
#include "mmkd/config/names.h"

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
    case TextFamily::mobilebert:
      [[fallthrough]];
    case TextFamily::roberta:
      break;
  }
  throw UsageError("text tower: the family {} is not available in this version; choose bert or distilbert",
                   to_string(config.family));
}

}  // namespace mmkd
