#pragma once
#include <map>
#include <string>

#include "mmkd/data/sample.h"

namespace mmkd {

/// As command lines call the splits.
inline const std::map<std::string, Split> kSplitNames{
    {"train", Split::train}, {"dev", Split::dev}, {"test", Split::test}};

}  // namespace mmkd
