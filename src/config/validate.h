#pragma once
#include "mmkd/config/config.h"
#include "problems.h"

namespace mmkd::config_detail {

/// Derives the values that follow from others: the custom student's architecture, width and tokenizer.
void settle(Config& config, Findings& findings);

/// What must hold between keys; problems and notes go to `findings`.
void validate(const Config& config, Findings& findings);

}  // namespace mmkd::config_detail
