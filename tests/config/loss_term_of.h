#pragma once
#include <algorithm>
#include <stdexcept>

#include "mmkd/config/config.h"

namespace mmkd {

/// The first term of that type in the configured loss.
inline LossTerm term_of(const Config& config, LossTermType type) {
  const auto terms = resolved_loss(config);
  const auto found = std::find_if(terms.begin(), terms.end(), [&](const LossTerm& term) { return term.type == type; });
  if (found == terms.end()) throw std::runtime_error("the loss has no such term");
  return *found;
}

}  // namespace mmkd
