#include "mmkd/report/scores.h"

#include <algorithm>

#include <fmt/format.h>

#include "mmkd/base/csv.h"
#include "mmkd/base/files.h"

namespace mmkd {
namespace {

nlohmann::ordered_json or_null(const std::optional<double>& value) {
  return value ? nlohmann::ordered_json(*value) : nlohmann::ordered_json(nullptr);
}

nlohmann::ordered_json per_class_json(const TaskScores& task) {
  auto rows = nlohmann::ordered_json::array();
  for (std::size_t c = 0; c < task.classes.size(); ++c) {
    const auto& one = task.scores.per_class[c];
    rows.push_back({{"class", task.classes[c]},
                    {"precision", one.precision},
                    {"recall", one.recall},
                    {"f1", one.f1},
                    {"support", one.support}});
  }
  return rows;
}

}  // namespace

double SplitScores::mean_f1() const {
  double sum = 0;
  for (const auto& task : tasks) sum += task.scores.f1_macro;
  return tasks.empty() ? 0 : sum / static_cast<double>(tasks.size());
}

nlohmann::ordered_json flat_metrics(const SplitScores& scores) {
  nlohmann::ordered_json row = nlohmann::ordered_json::object();
  for (const auto& task : scores.tasks) {
    const std::string prefix = scores.split + "_" + task.task + "_";
    row[prefix + "acc"] = task.scores.accuracy;
    row[prefix + "f1"] = task.scores.f1_macro;
    row[prefix + "prec"] = task.scores.precision_macro;
    row[prefix + "rec"] = task.scores.recall_macro;
    row[prefix + "auc"] = or_null(task.scores.roc_auc);
  }
  row[scores.split + "_infer_ms"] = scores.infer_ms;
  return row;
}

nlohmann::ordered_json epoch_row(const EpochRecord& record) {
  nlohmann::ordered_json row{{"epoch", record.epoch}, {"learning_rate", record.learning_rate}};
  for (const auto& [name, value] : record.losses) row[name] = value;
  row.update(flat_metrics(record.dev));
  return row;
}

std::string score_table(const std::vector<std::pair<std::string, SplitScores>>& rows) {
  std::size_t width = 5;
  for (const auto& [model, split] : rows) width = std::max(width, split.split.size());
  std::string table = fmt::format("{:<8} {:<{}} {:<24} {:>7} {:>7} {:>7} {:>7} {:>7}\n", "model", "split", width,
                                  "task", "F1", "acc", "prec", "rec", "AUC");
  for (const auto& [model, split] : rows) {
    for (const auto& task : split.tasks) {
      const auto& s = task.scores;
      table += fmt::format("{:<8} {:<{}} {:<24} {:>7.3f} {:>7.3f} {:>7.3f} {:>7.3f} {:>7}\n", model, split.split, width,
                           task.task, s.f1_macro, s.accuracy, s.precision_macro, s.recall_macro,
                           s.roc_auc ? fmt::format("{:.3f}", *s.roc_auc) : "-");
    }
  }
  return table;
}

void write_confusion_matrices(const std::filesystem::path& folder, const std::string& prefix,
                              const SplitScores& scores) {
  for (const auto& task : scores.tasks) {
    std::vector<std::string> header{"true\\predicted"};
    header.insert(header.end(), task.classes.begin(), task.classes.end());
    std::string text = csv_line(header) + "\n";
    for (std::size_t c = 0; c < task.classes.size(); ++c) {
      std::vector<std::string> cells{task.classes[c]};
      for (const auto count : task.scores.confusion[c]) cells.push_back(std::to_string(count));
      text += csv_line(cells) + "\n";
    }
    write_file_atomic(folder / fmt::format("{}confusion_{}_{}.csv", prefix, scores.split, task.task), text);
  }
}

nlohmann::ordered_json to_json(const SplitScores& scores) {
  nlohmann::ordered_json json{{"split", scores.split}, {"infer_ms", scores.infer_ms}, {"mean_f1", scores.mean_f1()}};
  auto& tasks = json["tasks"] = nlohmann::ordered_json::array();
  for (const auto& task : scores.tasks) {
    tasks.push_back({{"task", task.task},
                     {"acc", task.scores.accuracy},
                     {"f1", task.scores.f1_macro},
                     {"prec", task.scores.precision_macro},
                     {"rec", task.scores.recall_macro},
                     {"auc", or_null(task.scores.roc_auc)},
                     {"classes", task.classes},
                     {"confusion", task.scores.confusion},
                     {"per_class", per_class_json(task)}});
  }
  return json;
}

SplitScores split_scores_from_json(const nlohmann::ordered_json& json) {
  SplitScores scores;
  scores.split = json.at("split").get<std::string>();
  scores.infer_ms = json.at("infer_ms").get<double>();
  for (const auto& entry : json.at("tasks")) {
    TaskScores task;
    task.task = entry.at("task").get<std::string>();
    task.classes = entry.at("classes").get<std::vector<std::string>>();
    auto& s = task.scores;
    s.accuracy = entry.at("acc").get<double>();
    s.f1_macro = entry.at("f1").get<double>();
    s.precision_macro = entry.at("prec").get<double>();
    s.recall_macro = entry.at("rec").get<double>();
    if (!entry.at("auc").is_null()) s.roc_auc = entry.at("auc").get<double>();
    s.confusion = entry.at("confusion").get<std::vector<std::vector<std::int64_t>>>();
    for (const auto& one : entry.at("per_class")) {
      s.per_class.push_back({one.at("precision").get<double>(), one.at("recall").get<double>(),
                             one.at("f1").get<double>(), one.at("support").get<std::int64_t>()});
    }
    scores.tasks.push_back(std::move(task));
  }
  return scores;
}

}  // namespace mmkd
