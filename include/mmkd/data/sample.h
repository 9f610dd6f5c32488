#pragma once
#include <array>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "mmkd/config/config.h"

namespace mmkd {

enum class Split { train, dev, test };
inline constexpr std::array kSplits{Split::train, Split::dev, Split::test};  ///< all of them, in order
std::string_view name(Split split);

/// One row of a data set, before packing.
struct Sample {
  std::string id;               ///< unique over the data set
  std::filesystem::path image;  ///< absolute or relative to the working folder; never leaves data.root
  std::string text;             ///< UTF-8; never empty (an empty caption was replaced)
  bool text_was_empty = false;
  std::vector<std::string> labels;  ///< class name of each task, in the tasks' order
  std::string where;                ///< file:line, for messages
};

/// The rows of one split in file order. Throws Error (all problems of the file that can be told at once) for missing
/// files, malformed rows, missing columns, duplicate ids.
std::vector<Sample> read_split(const DataConfig& data, Split split);

}  // namespace mmkd
