#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace mmkd {

struct SplitTableOptions {
  std::filesystem::path table;                     ///< .csv with a header
  std::filesystem::path output;                    ///< folder of metadata_{train,dev,test}.csv
  std::filesystem::path image_root;                ///< what image paths are relative to; empty: the table's folder
  std::string image_column = "file_path";          ///< relative path, there or below `images`
  std::vector<std::string> stratify;               ///< columns whose shares are kept, at least one
  std::array<double, 3> shares{0.70, 0.15, 0.15};  ///< of train, dev, test; their sum is 1
  std::int64_t seed = 0;
};

struct SplitTableSummary {
  std::array<std::size_t, 3> rows{};  ///< of train, dev, test
  std::size_t pictures = 0;           ///< different ones; rows with equal pixels stay together
  std::vector<std::string> missing;   ///< "dev has no severity 'severe'": classes that a split does not get
};

/// Divides a table into train, dev and test. Rows whose pictures have equal pixels (the same file, a copy, or another
/// encoding without loss) go to the same split, so that nothing that is trained on is tested. Each combination of the
/// `stratify` columns gets its shares rounded; what rounding leaves over goes where the whole lacks most. The result is
/// a function of the table, the pictures and the seed; rows keep their order. Throws Error for bad rows and pictures,
/// all at once, UsageError for wrong shares, missing columns, and split files that are there already.
SplitTableSummary split_table(const SplitTableOptions& options);

}  // namespace mmkd
