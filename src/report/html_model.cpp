#include <fmt/format.h>
#include <openssl/evp.h>

#include <algorithm>
#include <functional>
#include <map>
#include <set>

#include "mmkd/report/html.h"
#include "mmkd/version.h"
#include "read_results.h"
#include "shared_stages.h"

namespace mmkd {
namespace {

using Json = nlohmann::ordered_json;
using Value = std::function<std::optional<double>(const Json& result)>;

Json metric(const std::vector<double>& values) {
  if (values.empty()) return nullptr;
  const auto [mean, std, n] = mean_std(values);
  return {{"mean", mean}, {"std", std}, {"values", values}};
}

/// A value of each seed that has it; null where none has it.
Json over_seeds(const FinishedRun& run, const Value& value) {
  std::vector<double> values;
  for (const auto& result : run.results) {
    if (const auto one = value(result)) values.push_back(*one);
  }
  return metric(values);
}

Json number_over_seeds(const FinishedRun& run, std::initializer_list<std::string> path) {
  return over_seeds(run, [&](const Json& result) { return find_number(result, path); });
}

/// Keys of the object at `path` of any seed, in order of first appearance.
std::vector<std::string> keys_at(const FinishedRun& run, std::initializer_list<std::string> path) {
  std::vector<std::string> keys;
  for (const auto& result : run.results) {
    const auto* object = find_value(result, path);
    if (object == nullptr || !object->is_object()) continue;
    for (const auto& [key, value] : object->items()) {
      if (std::find(keys.begin(), keys.end(), key) == keys.end()) keys.push_back(key);
    }
  }
  return keys;
}

void put(Json& object, const std::string& key, Json value) {
  if (!value.is_null() && !value.empty()) object[key] = std::move(value);
}

std::string main_model(const FinishedRun& run) { return has_student(run.results.front()) ? "student" : "teacher"; }

/// The flat metrics of a split; those of a teacher beside a student lie deeper.
const Json* metrics_of(const Json& result, const std::string& model, const std::string& split) {
  const bool beside = model == "teacher" && has_student(result);
  return beside ? find_value(result, {"metrics", "teacher", split}) : find_value(result, {"metrics", split});
}

std::optional<double> mean_f1(const Json& metrics, const std::string& split, const std::vector<std::string>& tasks) {
  double sum = 0;
  for (const auto& task : tasks) {
    const auto f1 = find_number(metrics, {fmt::format("{}_{}_f1", split, task)});
    if (!f1) return std::nullopt;
    sum += *f1 / static_cast<double>(tasks.size());
  }
  return tasks.empty() ? std::nullopt : std::optional(sum);
}

/// {"dev": {"mean": metric, "<task>": metric}, "test": …}
Json scores(const FinishedRun& run, const std::string& model) {
  const auto tasks = task_keys({run});
  Json json = Json::object();
  for (const std::string split : {"dev", "test"}) {
    const auto of_split = [&](const auto& value) {
      return over_seeds(run, [&](const Json& result) -> std::optional<double> {
        const auto* metrics = metrics_of(result, model, split);
        return metrics == nullptr ? std::nullopt : value(*metrics);
      });
    };
    Json entry = Json::object();
    put(entry, "mean", of_split([&](const Json& metrics) { return mean_f1(metrics, split, tasks); }));
    for (const auto& task : tasks) {
      const auto key = fmt::format("{}_{}_f1", split, task);
      put(entry, task, of_split([&](const Json& metrics) { return find_number(metrics, {key}); }));
    }
    put(json, split, entry);
  }
  return json;
}

/// Parameters, size and latency.
void put_costs(Json& json, const FinishedRun& run, const std::string& model) {
  put(json, "parameters_m", number_over_seeds(run, {"models", model, "params_millions"}));
  put(json, "mb", number_over_seeds(run, {"studies", "size", model, "mb_fp32"}));
  put(json, "latency_ms", number_over_seeds(run, {"timing", "latency", model, "median_ms"}));
  put(json, "mflops", over_seeds(run, [&](const Json& result) {
        const auto flops = find_number(result, {"studies", "size", model, "flops_per_sample"});
        return flops ? std::optional(*flops / 1e6) : std::nullopt;
      }));
}

std::string towers(const Json& result, const std::string& model) {
  std::string text;
  for (const char* tower : {"vision", "text"}) {
    const auto* name = find_value(result, {"models", model, tower});
    if (name == nullptr || !name->is_string() || name->get<std::string>().empty()) continue;
    text += (text.empty() ? "" : " + ") + name->get<std::string>();
  }
  return text;
}

/// Key of the first teacher's stage; teachers with equal keys are one.
std::string teacher_key(const Json& result) {
  for (const char* stage : {"teacher", "joint"}) {
    const auto* key = find_value(result, {"keys", stage});
    if (key != nullptr && key->is_string()) return key->get<std::string>();
  }
  return "";
}

Json teacher(const FinishedRun& run) {
  Json json = Json::object();
  put(json, "scores", scores(run, "teacher"));
  if (json.empty()) return json;
  put_costs(json, run, "teacher");
  json["towers"] = towers(run.results.front(), "teacher");
  json["key"] = teacher_key(run.results.front());
  return json;
}

/// [epoch, train loss, mean dev F1] of each epoch.
Json epochs(const FinishedRun& run) {
  const auto tasks = task_keys({run});
  Json seeds = Json::array();
  for (const auto& result : run.results) {
    const auto* history = find_value(result, {"metrics", "train", "history"});
    if (history == nullptr || !history->is_array() || history->empty()) continue;
    Json rows = Json::array();
    for (const auto& row : *history) {
      const auto number = [](const std::optional<double>& value) { return value ? Json(*value) : Json(nullptr); };
      rows.push_back({number(find_number(row, {"epoch"})), number(find_number(row, {"train_loss"})),
                      number(mean_f1(row, "dev", tasks))});
    }
    seeds.push_back(
        {{"seed", result.at("seed")}, {"best", result.at("metrics").value("best_epoch", 0)}, {"rows", rows}});
  }
  return seeds;
}

void add_counts(Json& sum, const Json& counts) {
  for (std::size_t i = 0; i < counts.size(); ++i) {
    for (std::size_t k = 0; k < counts.at(i).size(); ++k)
      sum.at(i).at(k) = sum.at(i).at(k).get<std::int64_t>() + counts.at(i).at(k).get<std::int64_t>();
  }
}

/// Confusion matrices by model, split and task, summed over the seeds.
Json confusion(const FinishedRun& run) {
  Json matrices = Json::array();
  const auto find = [&](const Json& like) -> Json* {
    for (auto& matrix : matrices) {
      if (matrix["model"] == like["model"] && matrix["split"] == like["split"] && matrix["task"] == like["task"] &&
          matrix["classes"] == like["classes"])
        return &matrix;
    }
    return nullptr;
  };
  for (const auto& result : run.results) {
    for (const std::string model : {"student", "teacher"}) {
      for (const std::string split : {"test", "dev"}) {
        const auto* tasks = find_value(result, {"details", model, split, "tasks"});
        if (tasks == nullptr) continue;
        for (const auto& task : *tasks) {
          const Json one{{"model", model},
                         {"split", split},
                         {"task", task.at("task")},
                         {"classes", task.at("classes")},
                         {"counts", task.at("confusion")}};
          if (auto* sum = find(one))
            add_counts((*sum)["counts"], one["counts"]);
          else
            matrices.push_back(one);
        }
      }
    }
  }
  return matrices;
}

Json calibration(const FinishedRun& run) {
  Json rows = Json::array();
  for (const std::string model : {"student", "teacher"}) {
    for (const auto& task : keys_at(run, {"studies", "calibration", model})) {
      const auto value = [&](std::initializer_list<std::string> rest) {
        return over_seeds(run, [&](const Json& result) -> std::optional<double> {
          const auto* entry = find_value(result, {"studies", "calibration", model, task});
          return entry == nullptr ? std::nullopt : find_number(*entry, rest);
        });
      };
      rows.push_back({{"model", model},
                      {"task", task},
                      {"temperature", value({"temperature"})},
                      {"ece_before", value({"before", "ece"})},
                      {"ece_after", value({"after", "ece"})},
                      {"nll_before", value({"before", "nll"})},
                      {"nll_after", value({"after", "nll"})}});
    }
  }
  return rows;
}

/// A row for each seed: p values have no mean.
Json mcnemar(const FinishedRun& run) {
  Json rows = Json::array();
  for (const auto& result : run.results) {
    const auto* tasks = find_value(result, {"studies", "mcnemar"});
    if (tasks == nullptr) continue;
    for (const auto& [task, test] : tasks->items()) {
      Json row{{"seed", result.at("seed")}, {"task", task}};
      row.update(test);
      rows.push_back(std::move(row));
    }
  }
  return rows;
}

Json agreement(const FinishedRun& run) {
  Json rows = Json::array();
  for (const auto& task : keys_at(run, {"studies", "agreement"}))
    rows.push_back({{"task", task}, {"share", number_over_seeds(run, {"studies", "agreement", task})}});
  return rows;
}

Json routing(const FinishedRun& run) {
  Json rows = Json::array();
  for (const std::string model : {"student", "teacher"}) {
    for (const auto& split : keys_at(run, {"studies", "routing", model})) {
      Json shares = Json::object();
      for (const auto& route : keys_at(run, {"studies", "routing", model, split, "shares"}))
        shares[route] = number_over_seeds(run, {"studies", "routing", model, split, "shares", route});
      Json row{{"model", model}, {"split", split}, {"shares", shares}};
      put(row, "expected_energy", number_over_seeds(run, {"studies", "routing", model, split, "expected_energy"}));
      rows.push_back(std::move(row));
    }
  }
  return rows;
}

Json robustness(const FinishedRun& run) {
  Json rows = Json::array();
  for (const std::string model : {"student", "teacher"}) {
    Json perturbed = Json::object();
    for (const auto& name : keys_at(run, {"studies", "robustness", model}))
      put(perturbed, name, number_over_seeds(run, {"studies", "robustness", model, name, "mean_f1"}));
    if (!perturbed.empty()) rows.push_back({{"model", model}, {"f1", perturbed}});
  }
  return rows;
}

Json run_json(const FinishedRun& run, const std::map<std::string, double>& built) {
  const auto& first = run.results.front();
  const auto model = main_model(run);
  Json json{{"name", run.name},
            {"main", model},
            {"fusion", first.at("fusion").at("type")},
            {"loss", model == "student" ? loss_name(first) : "teacher only"}};
  json["towers"] = towers(first, model);
  for (const auto& result : run.results) json["seeds"].push_back(result.at("seed"));
  put_costs(json, run, model);
  put(json, "scores", scores(run, model));
  if (model == "student") put(json, "teacher", teacher(run));
  put(json, "epochs", epochs(run));
  put(json, "confusion", confusion(run));
  put(json, "calibration", calibration(run));
  put(json, "mcnemar", mcnemar(run));
  put(json, "agreement", agreement(run));
  put(json, "routing", routing(run));
  put(json, "robustness", robustness(run));
  put(json, "stages", stage_times(run, built));
  return json;
}

/// Leaves of the configuration by their path. Lists are leaves.
void flatten(const Json& value, const std::string& path, std::map<std::string, std::string>& leaves) {
  if (value.is_object() && !value.empty()) {
    for (const auto& [key, inner] : value.items())
      flatten(inner, path.empty() ? key : fmt::format("{}.{}", path, key), leaves);
    return;
  }
  leaves[path] = value.is_string() ? value.get<std::string>() : value.is_null() ? "–" : value.dump();
}

/// Every key with what the run has there; where its seeds differ, with all their values.
std::map<std::string, std::string> config_of(const FinishedRun& run) {
  std::map<std::string, std::vector<std::string>> values;
  for (const auto& result : run.results) {
    std::map<std::string, std::string> leaves;
    flatten(result.at("config"), "", leaves);
    for (const auto& [key, value] : leaves) values[key].push_back(value);
  }
  std::map<std::string, std::string> config;
  for (const auto& [key, all] : values) {
    const bool equal = std::set<std::string>(all.begin(), all.end()).size() == 1;
    config[key] = equal ? all.front() : fmt::format("{}", fmt::join(all, ", "));
  }
  return config;
}

Json config_differences(const std::vector<FinishedRun>& runs) {
  std::vector<std::map<std::string, std::string>> configs;
  std::set<std::string> keys;
  for (const auto& run : runs) {
    configs.push_back(config_of(run));
    for (const auto& [key, value] : configs.back()) keys.insert(key);
  }
  keys.erase("logging.log_dir");  // every run has its own
  Json rows = Json::array();
  for (const auto& key : keys) {
    std::vector<std::string> values;
    values.reserve(configs.size());
    for (const auto& config : configs) values.push_back(config.contains(key) ? config.at(key) : "–");
    if (std::any_of(values.begin(), values.end(), [&](const std::string& value) { return value != values.front(); }))
      rows.push_back({{"key", key}, {"values", values}});
  }
  return rows;
}

std::string data_uri(const std::string& jpeg) {
  std::string base64((jpeg.size() + 2) / 3 * 4 + 1, '\0');  // EVP_EncodeBlock ends it with a zero
  const int size = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(base64.data()),
                                   reinterpret_cast<const unsigned char*>(jpeg.data()), static_cast<int>(jpeg.size()));
  base64.resize(static_cast<std::size_t>(size));
  return "data:image/jpeg;base64," + base64;
}

Json said_json(const std::optional<PredictedSample>& said) {
  if (!said) return nullptr;
  Json tasks = Json::array();
  for (const auto& task : said->tasks) {
    tasks.push_back(
        {{"task", task.task}, {"truth", task.truth}, {"predicted", task.predicted}, {"p", task.probability}});
  }
  return tasks;
}

Json samples_json(const Samples& samples) {
  if (samples.cards.empty() && samples.notes.empty()) return nullptr;
  Json json{{"split", samples.split},
            {"chosen_by", samples.chosen_by},
            {"wrong", samples.wrong},
            {"rows", samples.rows},
            {"notes", samples.notes}};
  json["cards"] = Json::array();
  json["speakers"] = Json::array();
  for (const auto& card : samples.cards) {
    Json entry{{"id", card.id}, {"text", card.text}};
    if (card.jpeg) entry["picture"] = data_uri(*card.jpeg);
    json["cards"].push_back(std::move(entry));
  }
  for (const auto& speaker : samples.speakers) {
    Json said = Json::array();
    for (const auto& one : speaker.said) said.push_back(said_json(one));
    json["speakers"].push_back({{"run", speaker.run}, {"model", speaker.model}, {"said", said}});
  }
  return json;
}

Json tasks_json(const std::vector<FinishedRun>& runs) {
  Json tasks = Json::array();
  for (const auto& key : task_keys(runs)) {
    std::string label = key;
    for (const auto& run : runs) {
      for (const auto& task : run.results.front().at("data").at("tasks")) {
        if (task.at("key") == key) label = task.value("label", label);
      }
    }
    tasks.push_back({{"key", key}, {"label", label}});
  }
  return tasks;
}

}  // namespace

Json report_model(const FinishedRuns& found, const Samples& samples, const ReportOptions& options) {
  Json model{{"title", options.title}, {"made", options.made}, {"version", kVersion}};
  model["tasks"] = tasks_json(found.runs);
  model["left_out"] = found.left_out;
  const auto built = built_seconds(found.runs);
  for (const auto& run : found.runs) model["runs"].push_back(run_json(run, built));
  put(model, "config", config_differences(found.runs));
  model["saved"] = saved_by_sharing(found.runs, built);
  put(model, "samples", samples_json(samples));
  return model;
}

}  // namespace mmkd
