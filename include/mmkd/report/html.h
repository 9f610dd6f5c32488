#pragma once
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "mmkd/report/runs.h"
#include "mmkd/report/samples.h"

// Finished runs as one HTML page that needs nothing else (docs/report.md).
namespace mmkd {

struct ReportOptions {
  std::string title = "Distillation report";
  std::string made;  ///< ISO 8601, UTC
};

/// What the page shows, as the page's script reads it. Metrics of several seeds are {"mean", "std", "values"}. A
/// section for which the runs have no data is absent:
///   title, made, version, tasks [{key, label}], left_out [folder]
///   runs: [{name, main ("student", or "teacher" where no student was trained), fusion, loss, towers, seeds,
///     parameters_m, mb, latency_ms, mflops, teacher {parameters_m, mb, latency_ms, mflops, key, scores},
///     scores {dev|test: {mean|<task>: metric}}, epochs [{seed, best, rows: [[epoch, train loss, dev mean F1]]}],
///     confusion [{model, split, task, classes, counts}] (summed over the seeds), calibration, mcnemar, agreement,
///     routing, robustness, stages}]
///   config: [{key, values}]: the keys in which the runs differ, a value for each run
///   saved: {seconds, stages, unknown}: what it saved that stages were built once for several results
///   samples: as Samples, pictures as data URIs
nlohmann::ordered_json report_model(const FinishedRuns& found, const Samples& samples, const ReportOptions& options);

/// The page. Complete without the network; the table of the runs is readable without JavaScript.
std::string report_page(const nlohmann::ordered_json& model);

}  // namespace mmkd
