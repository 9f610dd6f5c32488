#include "mmkd/report/runs.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <set>

#include "mmkd/base/csv.h"
#include "mmkd/base/error.h"
#include "mmkd/base/files.h"
#include "read_results.h"

namespace mmkd {
namespace {

using Json = nlohmann::ordered_json;

Json read_json_file(const fs::path& file) {
  auto json = Json::parse(read_file(file), nullptr, false);
  if (!json.is_object()) throw Error("{}: is no JSON object, so nothing that a run left", file.string());
  return json;
}

/// Checks what every reader of results relies on.
Json read_results(const fs::path& file) {
  auto json = read_json_file(file);
  for (const char* key : {"config", "metrics", "models", "fusion", "loss", "data", "seed"}) {
    if (!json.contains(key))
      throw Error("{}: has no '{}', so it is no results.json of this program", file.string(), key);
  }
  return json;
}

constexpr std::string_view kSeedPrefix = "seed-";

/// `seed-<number>` below `folder`, in the order of the numbers.
std::vector<fs::path> seed_folders(const fs::path& folder) {
  std::map<std::uint64_t, fs::path> by_seed;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const auto name = entry.path().filename().string();
    if (!entry.is_directory() || !name.starts_with(kSeedPrefix)) continue;
    std::uint64_t seed = 0;
    const char* end = name.data() + name.size();
    const auto [rest, error] = std::from_chars(name.data() + kSeedPrefix.size(), end, seed);
    if (error == std::errc() && rest == end) by_seed.emplace(seed, entry.path());
  }
  std::vector<fs::path> folders;
  folders.reserve(by_seed.size());
  for (const auto& [seed, path] : by_seed) folders.push_back(path);
  return folders;
}

bool has_results(const fs::path& folder) { return fs::exists(folder / "results.json"); }

bool is_run(const fs::path& folder) {
  if (!fs::is_directory(folder)) return false;
  if (has_results(folder) || fs::exists(folder / "seeds.json")) return true;
  const auto seeds = seed_folders(folder);
  return std::any_of(seeds.begin(), seeds.end(), has_results);
}

/// A log folder that no finished run left: one that runs, or was stopped.
bool is_unfinished(const fs::path& folder) {
  return fs::exists(folder / "run.log") || fs::exists(folder / "config.yaml") || !seed_folders(folder).empty();
}

/// The folders of a run, one for each seed; what belongs to it and has no results goes to `left_out`.
std::vector<fs::path> folders_of_run(const fs::path& folder, std::vector<std::string>& left_out) {
  if (fs::exists(folder / "seeds.json")) {
    const auto seeds = read_json_file(folder / "seeds.json");
    if (!seeds.contains("seeds") || !seeds.at("seeds").is_array() || seeds.at("seeds").empty())
      throw Error("{}: names no seeds", (folder / "seeds.json").string());
    std::vector<fs::path> folders;
    for (const auto& seed : seeds.at("seeds")) folders.push_back(folder / fmt::format("seed-{}", seed.dump()));
    return folders;
  }
  if (has_results(folder)) return {folder};
  auto folders = seed_folders(folder);
  std::erase_if(folders, [&](const fs::path& seed) {
    if (has_results(seed)) return false;
    left_out.push_back(seed.string());
    return true;
  });
  return folders;
}

FinishedRun read_run(const fs::path& folder, std::vector<std::string>& left_out) {
  FinishedRun run;
  run.folder = folder;
  run.folders = folders_of_run(folder, left_out);
  for (const auto& seed : run.folders) run.results.push_back(read_results(seed / "results.json"));
  return run;
}

/// The runs at a place, in the order of their names.
std::vector<fs::path> run_folders(const fs::path& place, std::vector<std::string>& left_out) {
  if (is_run(place)) return {place};
  std::vector<fs::path> folders;
  std::vector<std::string> unfinished;
  if (fs::is_directory(place)) {
    for (const auto& entry : fs::directory_iterator(place)) {
      if (!entry.is_directory()) continue;
      if (is_run(entry.path()))
        folders.push_back(entry.path());
      else if (is_unfinished(entry.path()))
        unfinished.push_back(entry.path().string());
    }
  }
  if (folders.empty())
    throw UsageError("{}: no finished run; expected a log folder with results.json, or a folder of such folders",
                     place.string());
  std::sort(folders.begin(), folders.end());
  std::sort(unfinished.begin(), unfinished.end());
  left_out.insert(left_out.end(), unfinished.begin(), unfinished.end());
  return folders;
}

/// The last `parts` names of a path.
std::string tail(const fs::path& path, std::size_t parts) {
  std::vector<std::string> names;
  for (const auto& name : path) {
    if (!name.empty() && name != "/" && name != ".") names.push_back(name.string());
  }
  std::string text;
  for (std::size_t i = names.size() - std::min(parts, names.size()); i < names.size(); ++i)
    text += (text.empty() ? "" : "/") + names[i];
  return text;
}

void name_runs(std::vector<FinishedRun>& runs) {
  constexpr std::size_t kMostParts = 8;
  for (std::size_t parts = 1; parts <= kMostParts; ++parts) {
    std::set<std::string> names;
    for (auto& run : runs) {
      run.name = tail(fs::absolute(run.folder).lexically_normal(), parts);
      names.insert(run.name);
    }
    if (names.size() == runs.size()) return;
  }
}

std::string parameters(const Json& result) {
  const auto& model = result.at("models").at(has_student(result) ? "student" : "teacher");
  return model.is_object() ? fmt::format("{:.2f}", model.at("params_millions").get<double>()) : "";
}

std::string scores(const FinishedRun& run, const std::string& split, const std::string& key) {
  std::vector<double> values;
  for (const auto& result : run.results) {
    const auto& metrics = result.at("metrics");
    if (metrics.contains(split) && metrics.at(split).is_object() && metrics.at(split).contains(key) &&
        metrics.at(split).at(key).is_number())
      values.push_back(metrics.at(split).at(key).get<double>());
  }
  if (values.empty()) return "";
  const auto [mean, std, n] = mean_std(values);
  return n > 1 ? fmt::format("{:.3f} ± {:.3f}", mean, std) : fmt::format("{:.3f}", mean);
}

std::string escaped(const std::string& text, std::string_view special, std::string_view escape) {
  std::string result;
  for (const char c : text) {
    if (special.find(c) != std::string_view::npos) result += escape;
    result += c;
  }
  return result;
}

}  // namespace

FinishedRuns read_runs(const std::vector<fs::path>& places) {
  FinishedRuns found;
  for (const auto& place : places) {
    for (const auto& folder : run_folders(place, found.left_out)) {
      try {
        found.runs.push_back(read_run(folder, found.left_out));
      } catch (const nlohmann::json::exception& e) {
        throw Error("{}: {}", folder.string(), e.what());
      }
    }
  }
  name_runs(found.runs);
  return found;
}

MeanStd mean_std(const std::vector<double>& values) {
  MeanStd result;
  result.values = values.size();
  const auto n = static_cast<double>(values.size());
  for (const double v : values) result.mean += v / n;
  double squares = 0;
  for (const double v : values) squares += (v - result.mean) * (v - result.mean);
  if (values.size() > 1) result.std = std::sqrt(squares / (n - 1));
  return result;
}

TextTable comparison(const std::vector<FinishedRun>& runs) {
  TextTable table;
  table.columns = {"run", "fusion", "loss", "parameters (M)", "seeds"};
  const auto tasks = task_keys(runs);
  for (const std::string split : {"dev", "test"}) {
    for (const auto& task : tasks) table.columns.push_back(fmt::format("{} {} F1", split, task));
  }
  for (const auto& run : runs) {
    const auto& first = run.results.front();
    std::vector<std::string> row{run.name, first.at("fusion").at("type").get<std::string>(),
                                 has_student(first) ? loss_name(first) : "teacher only", parameters(first),
                                 std::to_string(run.results.size())};
    for (const std::string split : {"dev", "test"}) {
      for (const auto& task : tasks) row.push_back(scores(run, split, fmt::format("{}_{}_f1", split, task)));
    }
    table.rows.push_back(std::move(row));
  }
  return table;
}

std::string markdown(const TextTable& table) {
  const auto line = [](const std::vector<std::string>& cells) {
    std::string text = "|";
    for (const auto& cell : cells) text += fmt::format(" {} |", escaped(cell, "|", "\\"));
    return text + "\n";
  };
  std::string text = line(table.columns);
  text += line(std::vector<std::string>(table.columns.size(), "---"));
  for (const auto& row : table.rows) text += line(row);
  return text;
}

std::string csv(const TextTable& table) {
  std::string text = csv_line(table.columns) + "\n";
  for (const auto& row : table.rows) text += csv_line(row) + "\n";
  return text;
}

std::string latex(const TextTable& table) {
  const auto cell = [](const std::string& text) {
    std::string result = escaped(text, "&%$#_{}", "\\");
    for (auto at = result.find("±"); at != std::string::npos; at = result.find("±"))
      result.replace(at, std::string("±").size(), "$\\pm$");
    return result;
  };
  const auto line = [&](const std::vector<std::string>& cells) {
    std::string text;
    for (std::size_t i = 0; i < cells.size(); ++i) text += (i > 0 ? " & " : "") + cell(cells[i]);
    return text + " \\\\\n";
  };
  std::string text =
      "\\begin{tabular}{" + std::string(table.columns.size(), 'l') + "}\n\\hline\n" + line(table.columns) + "\\hline\n";
  for (const auto& row : table.rows) text += line(row);
  return text + "\\hline\n\\end{tabular}\n";
}

}  // namespace mmkd
