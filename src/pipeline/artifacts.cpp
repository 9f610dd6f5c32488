#include <ATen/Parallel.h>
#include <torch/version.h>

#include <cstdio>

#include "mmkd/base/files.h"
#include "mmkd/base/log.h"
#include "mmkd/base/process.h"
#include "mmkd/config/names.h"
#include "mmkd/config/print.h"
#include "mmkd/pipeline/job.h"
#include "mmkd/pipeline/trained_file.h"
#include "mmkd/report/metrics_files.h"
#include "mmkd/version.h"

// What a run leaves in logging.log_dir (docs/formats/results.md).
namespace mmkd {
namespace {

using Json = nlohmann::ordered_json;

Json read_json(const fs::path& path) { return Json::parse(read_file(path)); }

std::vector<Json> history_of(const StageArtifact& artifact) {
  return read_json(artifact.folder / "history.json").get<std::vector<Json>>();
}

std::map<std::string, SplitScores> scores_of(const Json& scores, const std::string& model) {
  std::map<std::string, SplitScores> splits;
  if (!scores.contains(model)) return splits;
  for (const auto& [split, json] : scores.at(model).items()) splits.emplace(split, split_scores_from_json(json));
  return splits;
}

ModelResults model_results(const ModelSource& source) {
  const auto counts = count_parameters(source);
  return {.vision = source.vision_name,
          .text = source.text_name,
          .fusion_layers = source.spec.fusion.layers,
          .vision_params = counts.vision,
          .text_params = counts.text,
          .total_params = counts.total()};
}

Json data_json(const PackedInfo& packed) {
  Json json{
      {"train", packed.counts[0]}, {"dev", packed.counts[1]}, {"test", packed.counts[2]}, {"digest", packed.digest}};
  auto& tasks = json["tasks"] = Json::array();
  for (const auto& task : packed.tasks)
    tasks.push_back({{"label", task.label}, {"key", slug(task.label)}, {"classes", task.classes}});
  for (const auto& record : packed.left_out) json["quarantined"][std::string(name(record.split))].push_back(record.id);
  return json;
}

/// A stage's JSON file; null where it has none.
Json optional_json(const fs::path& file) { return fs::exists(file) ? read_json(file) : Json(nullptr); }

RunResults results(const Job& job, const Finished& finished, const StageArtifact& test) {
  const auto& config = job.config;
  const auto scores = read_json(test.folder / "scores.json");
  RunResults r;
  r.timestamp = utc_timestamp();
  r.config = to_json(config);
  r.student = scores_of(scores, "student");
  r.teacher = scores_of(scores, "teacher");
  r.studies = scores.at("studies");
  r.latency = optional_json(test.folder / "latency.json");
  if (!job.teachers.empty()) r.teacher_model = model_results(job.teachers.front());
  if (job.student) r.student_model = model_results(*job.student);
  if (!finished.teachers.empty()) r.teacher_history = history_of(finished.teachers.front());
  const auto& main = finished.joint     ? *finished.joint
                     : finished.student ? *finished.student
                                        : finished.teachers.front();
  r.history = history_of(main);
  r.best_epoch = read_json(main.folder / "summary.json").at("best_epoch").get<std::int64_t>();
  r.training = subset(config, {"training"}).at("training");
  r.training["batch_size"] = config.data.batch_size;
  r.data = data_json(job.packed);
  r.fusion = subset(config, {"fusion"}).at("fusion");
  r.loss = {{"type", config.loss.terms.empty() ? std::string(to_string(config.loss.type)) : "terms"},
            {"terms", to_json(resolved_loss(config))}};
  r.seed = static_cast<std::uint64_t>(config.training.seed);
  r.world = job.world.size();
  r.threads = at::get_num_threads();
  r.device = job.world.device().str();
  r.versions_torch = TORCH_VERSION;
  r.versions_mmkd = kVersion;
  r.stages = job.stages;
  return r;
}

constexpr const char* kWeightFormats[] = {".safetensors", ".pth"};

void link_weights(const fs::path& log_dir, const StageArtifact& artifact, const std::string& name,
                  const std::string& as) {
  for (const char* extension : kWeightFormats)
    link_or_copy(artifact.folder / (name + extension), log_dir / (as + extension));
}

constexpr const char* kStudentWeights[] = {"student_best", "student_final"};
constexpr const char* kProjections = "student_projections.safetensors";
constexpr const char* kStudentTowers = "student_hf";

void link_student(const Job& job, const StageArtifact& student) {
  const fs::path log_dir = job.config.logging.log_dir;
  for (const char* name : kStudentWeights) link_weights(log_dir, student, name, name);
  if (fs::exists(student.folder / kProjections)) link_or_copy(student.folder / kProjections, log_dir / kProjections);
  export_towers(open_model(student.folder / "student_best.safetensors"), log_dir / kStudentTowers);
}

/// What an earlier run with a student left in the folder: nobody shall take it for this run's.
void remove_student(const fs::path& log_dir) {
  for (const std::string name : kStudentWeights) {
    for (const char* extension : kWeightFormats) fs::remove(log_dir / (name + extension));
  }
  fs::remove(log_dir / kProjections);
  fs::remove_all(log_dir / kStudentTowers);
}

}  // namespace

void write_artifacts(const Job& job, const Finished& finished, const StageArtifact& test) {
  const fs::path log_dir = job.config.logging.log_dir;
  const auto r = results(job, finished, test);
  if (!finished.student && !finished.joint) remove_student(log_dir);
  for (std::size_t i = 0; i < finished.teachers.size(); ++i) {
    link_weights(log_dir, finished.teachers[i], "teacher", numbered("teacher", i));
    write_metrics(log_dir, numbered("teacher", i) + "_metrics", history_of(finished.teachers[i]));
  }
  if (finished.joint) link_weights(log_dir, *finished.joint, "teacher", "teacher");
  if (finished.joint) link_student(job, *finished.joint);
  if (finished.student) link_student(job, *finished.student);
  write_metrics(log_dir, "metrics", r.history);
  std::vector<std::pair<std::string, SplitScores>> rows;
  for (const auto& [model, splits] : {std::pair("teacher", &r.teacher), std::pair("student", &r.student)}) {
    for (const auto& [split, split_scores] : *splits) {
      const std::string prefix = std::string(model) == "teacher" ? "teacher_" : "";
      write_confusion_matrices(log_dir, prefix, split_scores);
      const std::string predictions = fmt::format("predictions_{}_{}.csv", model, split);
      link_or_copy(test.folder / predictions, log_dir / fmt::format("{}predictions_{}.csv", prefix, split));
      rows.emplace_back(model, split_scores);
    }
  }
  write_timings(log_dir / "timings.csv", job.stages);
  write_results(log_dir / "results.json", r);

  log::flush();
  std::string text = "\n" + score_table(rows) + "\n";
  for (const char* file : {"results.json", "metrics.csv", "student_best.safetensors", "student_best.pth", "student_hf",
                           "teacher.safetensors", "tensorboard"}) {
    if (fs::exists(log_dir / file)) text += fmt::format("{}\n", (log_dir / file).string());
  }
  std::fputs(text.c_str(), stdout);
}

}  // namespace mmkd
