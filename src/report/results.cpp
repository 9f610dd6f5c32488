#include "mmkd/report/results.h"

#include <fmt/format.h>

#include <cmath>

#include "mmkd/base/files.h"
#include "mmkd/report/metrics_files.h"
#include "mmkd/report/runs.h"

namespace mmkd {
namespace {

using Json = nlohmann::ordered_json;

Json model_json(const std::optional<ModelResults>& model) {
  if (!model) return nullptr;
  return {{"vision", model->vision},
          {"text", model->text},
          {"fusion_layers", model->fusion_layers},
          {"vision_params", model->vision_params},
          {"text_params", model->text_params},
          {"total_params", model->total_params},
          {"params_millions", static_cast<double>(model->total_params) / 1e6}};
}

Json split_json(const std::map<std::string, SplitScores>& splits, const std::string& split) {
  const auto found = splits.find(split);
  return found == splits.end() ? Json(nullptr) : flat_metrics(found->second);
}

Json details_json(const std::map<std::string, SplitScores>& splits) {
  Json details = Json::object();
  for (const auto& [split, scores] : splits) details[split] = to_json(scores);
  return details;
}

}  // namespace

nlohmann::ordered_json to_json(const RunResults& r) {
  const bool teacher_only = !r.student_model;
  const auto& main = teacher_only ? r.teacher : r.student;
  Json json{{"timestamp", r.timestamp}, {"config", r.config}};
  json["metrics"] = {
      {"train", {{"history", r.history}}}, {"dev", split_json(main, "dev")}, {"test", split_json(main, "test")}};
  json["metrics"]["best_epoch"] = r.best_epoch;
  if (!r.teacher.empty()) {
    json["metrics"]["teacher"] = {{"train", {{"history", r.teacher_history}}},
                                  {"dev", split_json(r.teacher, "dev")},
                                  {"test", split_json(r.teacher, "test")}};
  }
  json["models"] = {{"teacher", model_json(r.teacher_model)}, {"student", model_json(r.student_model)}};
  json["training"] = r.training;
  json["data"] = r.data;
  json["fusion"] = r.fusion;
  json["loss"] = r.loss;
  json["details"] = {{"student", details_json(r.student)}, {"teacher", details_json(r.teacher)}};
  if (!r.studies.is_null()) json["studies"] = r.studies;
  Json keys = Json::object();
  Json seconds = Json::object();
  Json reused = Json::object();
  Json built = Json::object();
  for (const auto& stage : r.stages) {
    keys[stage.stage] = stage.key;
    seconds[stage.stage] = stage.seconds;
    reused[stage.stage] = stage.reused;
    if (stage.built_seconds > 0) built[stage.stage] = stage.built_seconds;
  }
  json["keys"] = keys;
  json["seed"] = r.seed;
  json["world"] = {{"ranks", r.world}, {"threads_per_rank", r.threads}, {"device", r.device}};
  json["versions"] = {{"mmkd", r.versions_mmkd}, {"torch", r.versions_torch}};
  json["timing"] = {{"seconds", seconds}, {"reused", reused}, {"built_seconds", built}};
  if (!r.latency.is_null()) json["timing"]["latency"] = r.latency;
  return json;
}

void write_results(const std::filesystem::path& file, const RunResults& results) {
  write_file_atomic(file, to_json(results).dump(1) + "\n");
}

void write_timings(const std::filesystem::path& file, const std::vector<StageResults>& stages) {
  std::string text = "stage,key,reused,seconds\n";
  for (const auto& stage : stages)
    text += fmt::format("{},{},{},{:.3f}\n", stage.stage, stage.key, stage.reused, stage.seconds);
  write_file_atomic(file, text);
}

namespace {

/// The dev and test metrics of a model in a results.json, flat; "metrics" itself is the main model's.
Json metrics_of(const Json& metrics) {
  Json flat = Json::object();
  for (const char* split : {"dev", "test"}) {
    if (!metrics.contains(split) || !metrics.at(split).is_object()) continue;
    for (const auto& [key, value] : metrics.at(split).items()) {
      if (value.is_number() && !key.ends_with("infer_ms")) flat[key] = value;
    }
  }
  return flat;
}

Json summary_of(const std::vector<double>& values) {
  const auto [mean, std, n] = mean_std(values);
  return {{"mean", mean}, {"std", std}, {"values", values}};
}

}  // namespace

Json summarize_seeds(const std::vector<Json>& results) {
  Json summary = Json::object();
  std::map<std::string, std::vector<double>> values[2];
  std::vector<std::string> order[2];
  for (const auto& result : results) {
    summary["seeds"].push_back(result.at("seed"));
    const auto& metrics = result.at("metrics");
    const bool teacher_only = result.at("models").at("student").is_null();
    const Json models[2] = {teacher_only ? Json::object() : metrics_of(metrics), teacher_only ? metrics_of(metrics)
                                                                                 : metrics.contains("teacher")
                                                                                     ? metrics_of(metrics.at("teacher"))
                                                                                     : Json::object()};
    for (std::size_t m = 0; m < 2; ++m) {
      for (const auto& [key, value] : models[m].items()) {
        if (!values[m].contains(key)) order[m].push_back(key);
        values[m][key].push_back(value.get<double>());
      }
    }
  }
  for (std::size_t m = 0; m < 2; ++m) {
    for (const auto& key : order[m]) summary[m == 0 ? "student" : "teacher"][key] = summary_of(values[m].at(key));
  }
  return summary;
}

}  // namespace mmkd
