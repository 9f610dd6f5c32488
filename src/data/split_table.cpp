#include "mmkd/data/split_table.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "mmkd/base/csv.h"
#include "mmkd/base/error.h"
#include "mmkd/base/files.h"
#include "mmkd/base/hash.h"
#include "mmkd/base/rng.h"
#include "mmkd/data/sample.h"
#include "mmkd/data/tables.h"
#include "mmkd/image/image.h"
#include "table_cells.h"

namespace mmkd {
namespace {

using Cells = std::map<std::string, std::string>;

struct Table {
  std::vector<std::string> columns;
  std::vector<Cells> rows;
  std::vector<std::string> pictures;  // of each row: digest of its pixels
};

fs::path split_file(const SplitTableOptions& options, Split split) {
  return options.output / fmt::format("metadata_{}.csv", name(split));
}

void check(const SplitTableOptions& options) {
  if (options.table.extension() != ".csv")
    throw UsageError("{}: expected a file that ends in .csv", options.table.string());
  double sum = 0;
  for (const double share : options.shares) {
    if (!(share >= 0 && share <= 1)) throw UsageError("a share of {} is outside 0 … 1", share);
    sum += share;
  }
  if (std::abs(sum - 1) > 1e-6) throw UsageError("the shares of train, dev and test add up to {}, expected 1", sum);
  if (options.stratify.empty()) throw UsageError("name at least one column whose classes each split should have");
  for (const auto split : kSplits) {
    const auto file = split_file(options, split);
    if (fs::exists(file)) throw UsageError("{}: is there already; remove it or name another folder", file.string());
  }
}

/// Pictures are told apart by their pixels: a copy in another file or format is the same one.
std::string pixels_digest(const fs::path& file) {
  const auto encoded = read_file(file);
  const auto image = decode_image(std::as_bytes(std::span(encoded)), file.string());
  Sha256 hash;
  hash.update(fmt::format("{} {} ", image.height, image.width));
  hash.update(std::string_view(reinterpret_cast<const char*>(image.rgb.data()), image.rgb.size()));
  return std::move(hash).hex();
}

void require_columns(const SplitTableOptions& options, const Cells& cells) {
  auto wanted = options.stratify;
  wanted.push_back(options.image_column);
  for (const auto& column : wanted) {
    try {
      (void)required_cell(cells, column);
    } catch (const Error& e) {
      throw UsageError("{}: {}", options.table.string(), e.what());
    }
  }
}

Table read_table(const SplitTableOptions& options) {
  const fs::path root = options.image_root.empty() ? options.table.parent_path() : options.image_root;
  Table table;
  RowProblems problems(options.table);
  std::map<fs::path, std::string> digests;
  table.columns = read_csv(
      options.table,
      [&](const Cells& cells, std::size_t line) {
        if (table.rows.empty()) require_columns(options, cells);
        try {
          for (const auto& column : options.stratify) {
            if (trimmed(required_cell(cells, column)).empty()) throw Error("column '{}' is empty", column);
          }
          const auto image = wound_image(root, trimmed(required_cell(cells, options.image_column)));
          auto& digest = digests[image];
          if (digest.empty()) digest = pixels_digest(image);
          table.rows.push_back(cells);
          table.pictures.push_back(digest);
        } catch (const Error& e) {
          problems.add(fmt::format("{}:{}", options.table.string(), line), e.what());
        }
      },
      [&](const std::string& where, const std::string& what) { problems.add(where, what); });
  problems.throw_if_any();
  if (table.rows.empty()) throw Error("{}: has no rows", options.table.string());
  return table;
}

/// Rows of one picture, which stay together.
using Group = std::vector<std::size_t>;

std::string stratum_of(const Cells& cells, const SplitTableOptions& options) {
  std::string stratum;
  for (const auto& column : options.stratify) stratum += trimmed(cells.at(column)) + '\x1f';
  return stratum;
}

/// Groups by stratum; a group belongs to that of its first row.
std::map<std::string, std::vector<Group>> strata_of(const Table& table, const SplitTableOptions& options) {
  std::map<std::string, std::vector<Group>> strata;
  std::map<std::string, std::pair<std::string, std::size_t>> place;  // of a picture: stratum, index
  for (std::size_t i = 0; i < table.rows.size(); ++i) {
    const auto& picture = table.pictures[i];
    if (const auto found = place.find(picture); found != place.end()) {
      strata[found->second.first][found->second.second].push_back(i);
      continue;
    }
    const auto stratum = stratum_of(table.rows[i], options);
    place[picture] = {stratum, strata[stratum].size()};
    strata[stratum].push_back({i});
  }
  return strata;
}

using Counts = std::array<double, 3>;

/// The split that a group of a stratum goes to: the one that lacks most whole rows of the stratum; else, of those that
/// lack a part of one, that which lacks most of all rows.
std::size_t choose(const Counts& stratum_lacks, const Counts& all_lack) {
  const auto largest = [](const Counts& counts, const auto& allowed) {
    std::size_t best = counts.size();
    for (std::size_t s = 0; s < counts.size(); ++s) {
      if (allowed(s) && (best == counts.size() || counts[s] > counts[best])) best = s;
    }
    return best;
  };
  constexpr double kRounding = 1e-9;
  auto best = largest(stratum_lacks, [&](std::size_t s) { return stratum_lacks[s] >= 1 - kRounding; });
  if (best == stratum_lacks.size())
    best = largest(all_lack, [&](std::size_t s) { return stratum_lacks[s] > kRounding; });
  return best == stratum_lacks.size() ? largest(all_lack, [](std::size_t) { return true; }) : best;
}

/// Of each row: the index of its split.
std::vector<std::size_t> assign(const Table& table, const SplitTableOptions& options) {
  std::vector<std::size_t> split_of(table.rows.size());
  Counts all_lack{};  // of the strata so far
  for (auto& [stratum, groups] : strata_of(table, options)) {
    KeyedRng rng(static_cast<std::uint64_t>(options.seed), RngPurpose::split, {checksum64(stratum)});
    std::size_t size = 0;
    for (const auto& group : groups) size += group.size();
    Counts lacks{};
    for (std::size_t s = 0; s < lacks.size(); ++s) {
      lacks[s] = options.shares[s] * static_cast<double>(size);
      all_lack[s] += lacks[s];
    }
    for (const auto index : rng.permutation(static_cast<std::uint32_t>(groups.size()))) {
      const auto& rows = groups[index];
      const auto split = choose(lacks, all_lack);
      for (const auto row : rows) split_of[row] = split;
      lacks[split] -= static_cast<double>(rows.size());
      all_lack[split] -= static_cast<double>(rows.size());
    }
  }
  return split_of;
}

std::vector<std::string> missing_classes(const Table& table, const std::vector<std::size_t>& split_of,
                                         const SplitTableOptions& options) {
  std::vector<std::string> missing;
  for (const auto& column : options.stratify) {
    std::set<std::string> classes;
    std::array<std::set<std::string>, 3> present;
    for (std::size_t i = 0; i < table.rows.size(); ++i) {
      const auto value = trimmed(table.rows[i].at(column));
      classes.insert(value);
      present[split_of[i]].insert(value);
    }
    for (std::size_t s = 0; s < present.size(); ++s) {
      if (options.shares[s] == 0) continue;
      for (const auto& value : classes) {
        if (!present[s].contains(value))
          missing.push_back(fmt::format("{} has no {} '{}'", name(kSplits[s]), column, value));
      }
    }
  }
  return missing;
}

}  // namespace

SplitTableSummary split_table(const SplitTableOptions& options) {
  check(options);
  const auto table = read_table(options);
  const auto split_of = assign(table, options);
  SplitTableSummary summary;
  summary.pictures = std::set<std::string>(table.pictures.begin(), table.pictures.end()).size();
  summary.missing = missing_classes(table, split_of, options);
  std::array<std::string, 3> texts;
  texts.fill(csv_line(table.columns) + "\n");
  for (std::size_t i = 0; i < table.rows.size(); ++i) {
    std::vector<std::string> cells;
    for (const auto& column : table.columns) cells.push_back(table.rows[i].at(column));
    texts[split_of[i]] += csv_line(cells) + "\n";
    ++summary.rows[split_of[i]];
  }
  for (std::size_t s = 0; s < texts.size(); ++s) {
    if (summary.rows[s] > 0) write_file_atomic(split_file(options, kSplits[s]), texts[s]);
  }
  return summary;
}

}  // namespace mmkd
