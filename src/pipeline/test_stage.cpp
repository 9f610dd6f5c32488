#include "mmkd/base/csv.h"
#include "mmkd/base/files.h"
#include "mmkd/comm/agree.h"
#include "mmkd/eval/evaluate.h"
#include "mmkd/eval/model_size.h"
#include "mmkd/eval/robustness.h"
#include "mmkd/metrics/calibration.h"
#include "mmkd/metrics/mcnemar.h"
#include "mmkd/pipeline/job.h"

namespace mmkd {
namespace {

using Json = nlohmann::ordered_json;

/// A trained model, or several that answer together, with what it says about the splits (rank 0).
struct Tested {
  const ModelSource& source;
  std::vector<std::shared_ptr<MultimodalModel>> models;
  std::map<Split, Predictions> predictions;

  std::string name() const { return std::string(mmkd::name(source.role)); }
};

std::vector<MultimodalModel*> pointers(const Tested& tested) {
  std::vector<MultimodalModel*> result;
  for (const auto& model : tested.models) result.push_back(model.get());
  return result;
}

/// Collective.
Predictions predict_split(const Job& job, const Tested& tested, Split split) {
  const PackedSplit packed(job.packed, split, job.config.data.verify_on_read);
  const auto models = pointers(tested);
  return predict(job.world, models, PackedSource(packed), input_of(job, tested.source),
                 evaluation_options(job.config, tested.source.role));
}

std::vector<Split> tested_splits(const Job& job) {
  std::vector<Split> splits;
  for (const Split split : {Split::dev, Split::test}) {
    // A table may have no test split.
    if (job.packed.counts[static_cast<std::size_t>(split)] > 0) splits.push_back(split);
  }
  return splits;
}

std::vector<bool> right(const Predictions::Task& task) {
  const auto predicted = argmax_rows(task.prob, task.classes);
  std::vector<bool> result(task.y_true.size());
  for (std::size_t i = 0; i < result.size(); ++i) result[i] = predicted[i] == task.y_true[i];
  return result;
}

/// Teacher against student on one split, per task.
Json mcnemar_json(const Job& job, const Predictions& teacher, const Predictions& student) {
  Json json = Json::object();
  for (std::size_t t = 0; t < student.tasks.size(); ++t) {
    const auto result = mcnemar(right(teacher.tasks[t]), right(student.tasks[t]));
    json[slug(job.packed.tasks[t].label)] = {{"only_teacher_right", result.only_a},
                                             {"only_student_right", result.only_b},
                                             {"p_exact", result.p_exact},
                                             {"chi2_corrected", result.chi2_corrected},
                                             {"p_chi2_corrected", result.p_chi2}};
  }
  return json;
}

/// Share of samples on which the two predict the same class, per task.
Json agreement_json(const Job& job, const Predictions& teacher, const Predictions& student) {
  Json json = Json::object();
  for (std::size_t t = 0; t < student.tasks.size(); ++t) {
    const auto a = argmax_rows(teacher.tasks[t].prob, teacher.tasks[t].classes);
    const auto b = argmax_rows(student.tasks[t].prob, student.tasks[t].classes);
    std::size_t equal = 0;
    for (std::size_t i = 0; i < a.size(); ++i) equal += a[i] == b[i] ? 1 : 0;
    json[slug(job.packed.tasks[t].label)] = static_cast<double>(equal) / static_cast<double>(a.size());
  }
  return json;
}

/// The temperature that dev asks for, and what it does to the calibration on test (dev itself without a test split).
Json calibration_json(const Job& job, const Predictions& dev, const Predictions& test) {
  Json json = Json::object();
  for (std::size_t t = 0; t < test.tasks.size(); ++t) {
    const auto& fitted_on = dev.tasks[t];
    const auto& measured = test.tasks[t];
    const double temperature = fit_temperature(fitted_on.y_true, fitted_on.prob, fitted_on.classes);
    const auto scaled = with_temperature(measured.prob, measured.classes, temperature);
    const auto figures = [&](std::span<const double> prob) {
      return Json{{"ece", expected_calibration_error(measured.y_true, prob, measured.classes)},
                  {"nll", negative_log_likelihood(measured.y_true, prob, measured.classes)}};
    };
    json[slug(job.packed.tasks[t].label)] = {
        {"temperature", temperature}, {"before", figures(measured.prob)}, {"after", figures(scaled)}};
  }
  return json;
}

Json routing_json(const Tested& tested) {
  Json json = Json::object();
  const auto names = tested.models.front()->route_names();
  for (const auto& [split, predictions] : tested.predictions) {
    Json shares = Json::object();
    for (std::size_t r = 0; r < names.size(); ++r) shares[names[r]] = predictions.route_shares.at(r);
    auto& entry = json[std::string(name(split))] = {{"shares", shares}};
    if (predictions.mean_energy) entry["expected_energy"] = *predictions.mean_energy;
  }
  return json;
}

Json size_json(const Job& job, const Tested& tested) {
  const auto counts = tested.models.front()->parameter_counts();
  const auto tokens = mean_tokens(job, tested.source);
  const auto input = input_of(job, tested.source);
  const double values = static_cast<double>(counts.total());
  return {{"parameters",
           {{"vision", counts.vision},
            {"text", counts.text},
            {"projections", counts.projections},
            {"fusion", counts.fusion},
            {"heads", counts.heads},
            {"total", counts.total()}}},
          {"mb_fp32", values * 4 / 1e6},
          {"mb_bf16", values * 2 / 1e6},
          {"flops_per_sample", flops_per_sample(*tested.models.front(), input, tokens)},
          {"flops_tokens", tokens}};
}

/// id, then per task the true class, the predicted one, and the probability of each class.
std::string predictions_csv(const Job& job, Split split, const Predictions& predictions) {
  std::vector<std::string> header{"id"};
  for (const auto& task : job.packed.tasks) {
    const auto key = slug(task.label);
    header.push_back(key + "_true");
    header.push_back(key + "_pred");
    for (const auto& one : task.classes) header.push_back(key + "_p_" + one);
  }
  std::string text = csv_line(header) + "\n";
  const PackedSplit packed(job.packed, split, false);
  std::vector<std::vector<std::int32_t>> predicted;
  for (const auto& task : predictions.tasks) predicted.push_back(argmax_rows(task.prob, task.classes));
  for (std::int64_t i = 0; i < packed.size(); ++i) {
    const auto row = static_cast<std::size_t>(i);
    std::vector<std::string> cells{std::string(packed.get(i).id)};
    for (std::size_t t = 0; t < predictions.tasks.size(); ++t) {
      const auto& task = predictions.tasks[t];
      const auto& classes = job.packed.tasks[t].classes;
      cells.push_back(classes.at(static_cast<std::size_t>(task.y_true[row])));
      cells.push_back(classes.at(static_cast<std::size_t>(predicted[t][row])));
      for (std::size_t k = 0; k < classes.size(); ++k)
        cells.push_back(fmt::format("{:.6f}", task.prob[row * classes.size() + k]));
    }
    text += csv_line(cells) + "\n";
  }
  return text;
}

/// Collective. The models that are tested, with their predictions on every split.
std::vector<Tested> run_models(const Job& job, const Finished& finished) {
  const auto& parents = job.plan.test.parents;
  std::vector<Tested> all;
  if (parents.contains("teacher") || parents.contains("joint")) {
    Tested tested{.source = job.teachers.at(0), .models = {}, .predictions = {}};
    if (finished.joint) {
      tested.models.push_back(load_trained(job, job.teachers.at(0), *finished.joint));
    } else {
      for (std::size_t i = 0; i < finished.teachers.size(); ++i)
        tested.models.push_back(load_trained(job, job.teachers.at(i), finished.teachers[i]));
    }
    all.push_back(std::move(tested));
  }
  if (finished.student || finished.joint) {
    Tested tested{.source = *job.student, .models = {}, .predictions = {}};
    tested.models.push_back(load_trained(job, *job.student, finished.joint ? *finished.joint : *finished.student));
    all.push_back(std::move(tested));
  }
  for (auto& tested : all) {
    for (const Split split : tested_splits(job)) tested.predictions.emplace(split, predict_split(job, tested, split));
  }
  return all;
}

/// Collective. Scores under every perturbation, on test (dev without a test split).
Json robustness(const Job& job, const Tested& tested) {
  const std::string split(name(tested_splits(job).back()));
  const PackedSplit packed(job.packed, tested_splits(job).back(), job.config.data.verify_on_read);
  const auto models = pointers(tested);
  Json json = Json::object();
  for (auto& scores : robustness_scores(job.world, models, PackedSource(packed), input_of(job, tested.source),
                                        evaluation_options(job.config, tested.source.role), job.packed.tasks)) {
    const auto perturbation = std::exchange(scores.split, split);
    auto flat = flat_metrics(scores);
    flat.erase(split + "_infer_ms");
    flat["mean_f1"] = scores.mean_f1();
    json[perturbation] = flat;
  }
  return json;
}

/// Rank 0.
Json studies(const Job& job, const std::vector<Tested>& all) {
  Json json = Json::object();
  const Split last = tested_splits(job).back();
  for (const auto& tested : all) {
    json["size"][tested.name()] = size_json(job, tested);
    json["calibration"][tested.name()] =
        calibration_json(job, tested.predictions.at(Split::dev), tested.predictions.at(last));
    if (!tested.models.front()->route_names().empty()) json["routing"][tested.name()] = routing_json(tested);
  }
  if (all.size() == 2) {
    const auto& teacher = all[0].predictions.at(last);
    const auto& student = all[1].predictions.at(last);
    json["mcnemar"] = mcnemar_json(job, teacher, student);
    json["agreement"] = agreement_json(job, teacher, student);
  }
  return json;
}

}  // namespace

StageArtifact test_stage(Job& job, const Finished& finished) {
  const auto all = run_models(job, finished);
  Json robust = Json::object();
  if (job.config.evaluation.robustness) {
    for (const auto& tested : all) robust[tested.name()] = robustness(job, tested);
  }
  return commit(job, job.plan.test, finished, [&](const fs::path& folder) {
    Json scores = Json::object();
    for (const auto& tested : all) {
      for (const auto& [split, predictions] : tested.predictions) {
        const std::string split_name(name(split));
        scores[tested.name()][split_name] = to_json(score(predictions, job.packed.tasks, split_name));
        write_file_atomic(folder / fmt::format("predictions_{}_{}.csv", tested.name(), split_name),
                          predictions_csv(job, split, predictions));
      }
    }
    scores["studies"] = studies(job, all);
    if (!robust.empty()) scores["studies"]["robustness"] = robust;
    write_file_atomic(folder / "scores.json", scores.dump(1) + "\n");
    if (!job.config.evaluation.latency) return;
    Json latency = Json::object();
    for (const auto& tested : all) {
      const auto measured =
          measure_latency(*tested.models.front(), input_of(job, tested.source), mean_tokens(job, tested.source),
                          job.world.device(), job.config.training.precision);
      latency[tested.name()] = {
          {"median_ms", measured.median_ms}, {"p90_ms", measured.p90_ms}, {"runs", measured.runs}};
    }
    write_file_atomic(folder / "latency.json", latency.dump(1) + "\n");
  });
}

}  // namespace mmkd
