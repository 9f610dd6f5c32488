#pragma once
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

namespace mmkd {

/// A finished run: its results.json, or those of its seeds.
struct FinishedRun {
  std::string name;  ///< for people: the folder's, made unique by as many of its parents as it takes
  std::filesystem::path folder;
  std::vector<std::filesystem::path> folders;   ///< of each result: `folder` itself, or its seeds'
  std::vector<nlohmann::ordered_json> results;  ///< one for each seed, at least one
};

struct FinishedRuns {
  std::vector<FinishedRun> runs;
  std::vector<std::string> left_out;  ///< log folders that were met and have no results.json: not finished
};

/// Reads log folders of runs (results.json), of several seeds (seeds.json, or `seed-<n>` folders with results.json, in
/// the order of their numbers), and folders that hold such folders. Throws UsageError for a place without any, Error
/// for files that are not what a run leaves.
FinishedRuns read_runs(const std::vector<std::filesystem::path>& places);

/// Mean and sample standard deviation (0 for one value).
struct MeanStd {
  double mean = 0, std = 0;
  std::size_t values = 0;
};
MeanStd mean_std(const std::vector<double>& values);

/// A table of text, ready to be written in several formats.
struct TextTable {
  std::vector<std::string> columns;
  std::vector<std::vector<std::string>> rows;  ///< as many cells as columns
};
/// One row for each run: fusion, loss, parameters, then of every task the student's dev and test macro F1 (mean ±
/// standard deviation over the seeds), best epoch; of the teacher where no student was trained.
TextTable comparison(const std::vector<FinishedRun>& runs);
std::string markdown(const TextTable& table);
std::string csv(const TextTable& table);
std::string latex(const TextTable& table);

}  // namespace mmkd
