#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "keys.h"
#include "problems.h"
#include "yaml_document.h"

namespace mmkd::config_detail {

/// Puts `a.b=c`, the `origin`-th override, into the tree. A text on the way becomes a map where its section has a
/// shorthand (`student.tokenizer: NAME` and `student.tokenizer.do_lower_case=false`).
void apply_override(Node& root, std::string_view assignment, int origin, const std::vector<Key>& keys,
                    Findings& findings);

}  // namespace mmkd::config_detail
