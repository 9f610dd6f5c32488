#include "mmkd/report/runs.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "mmkd/base/csv.h"
#include "mmkd/base/error.h"
#include "mmkd/base/files.h"

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

bool is_run(const fs::path& folder) { return fs::exists(folder / "results.json") || fs::exists(folder / "seeds.json"); }

FinishedRun read_run(const fs::path& folder) {
  FinishedRun run;
  run.folder = folder;
  if (!fs::exists(folder / "seeds.json")) {
    run.results.push_back(read_results(folder / "results.json"));
    return run;
  }
  const auto seeds = read_json_file(folder / "seeds.json");
  if (!seeds.contains("seeds") || !seeds.at("seeds").is_array() || seeds.at("seeds").empty())
    throw Error("{}: names no seeds", (folder / "seeds.json").string());
  for (const auto& seed : seeds.at("seeds"))
    run.results.push_back(read_results(folder / fmt::format("seed-{}", seed.dump()) / "results.json"));
  return run;
}

/// The runs at a place, in the order of their names.
std::vector<fs::path> run_folders(const fs::path& place) {
  if (is_run(place)) return {place};
  std::vector<fs::path> folders;
  if (fs::is_directory(place)) {
    for (const auto& entry : fs::directory_iterator(place)) {
      if (entry.is_directory() && is_run(entry.path())) folders.push_back(entry.path());
    }
  }
  if (folders.empty())
    throw UsageError("{}: no finished run; expected a log folder with results.json, or a folder of such folders",
                     place.string());
  std::sort(folders.begin(), folders.end());
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

/// What the loss is called: its type, or its terms.
std::string loss_name(const Json& result) {
  const auto& loss = result.at("loss");
  if (loss.contains("type") && loss.at("type").is_string() && loss.at("type") != "terms")
    return loss.at("type").get<std::string>();
  std::string name;
  if (loss.contains("terms") && loss.at("terms").is_array()) {
    for (const auto& term : loss.at("terms")) {
      for (const auto& [key, value] : term.items()) name += (name.empty() ? "" : " + ") + key;
    }
  }
  return name;
}

bool has_student(const Json& result) { return !result.at("models").at("student").is_null(); }

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

/// Keys of the tasks of all runs, in order of first appearance.
std::vector<std::string> task_keys(const std::vector<FinishedRun>& runs) {
  std::vector<std::string> keys;
  for (const auto& run : runs) {
    for (const auto& task : run.results.front().at("data").at("tasks")) {
      const auto key = task.at("key").get<std::string>();
      if (std::find(keys.begin(), keys.end(), key) == keys.end()) keys.push_back(key);
    }
  }
  return keys;
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

std::vector<FinishedRun> read_runs(const std::vector<fs::path>& places) {
  std::vector<FinishedRun> runs;
  for (const auto& place : places) {
    for (const auto& folder : run_folders(place)) {
      try {
        runs.push_back(read_run(folder));
      } catch (const nlohmann::json::exception& e) {
        throw Error("{}: {}", folder.string(), e.what());
      }
    }
  }
  name_runs(runs);
  return runs;
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
    for (const auto& cell : cells) text += " " + escaped(cell, "|", "\\") + " |";
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
