// mmkd: what surrounds a run. Links no torch, so that it starts at once; what needs tensors is done by mmkd-torch.
#include <unistd.h>
#include <CLI/CLI.hpp>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "mmkd/base/error.h"
#include "mmkd/base/files.h"
#include "mmkd/base/process.h"
#include "mmkd/command_line/documents.h"
#include "mmkd/command_line/model_arguments.h"
#include "mmkd/config/load.h"
#include "mmkd/config/print.h"
#include "mmkd/config/sweep.h"
#include "mmkd/formats/describe_weights.h"
#include "mmkd/report/html.h"
#include "mmkd/report/runs.h"
#include "mmkd/report/samples.h"
#include "mmkd/version.h"
#include "sweep_commands.h"

namespace {

using namespace mmkd;

/// Does mmkd-torch do what this command line asks for?
bool needs_tensors(const std::vector<std::string>& arguments) {
  if (arguments.empty()) return false;
  const auto asks_for_help = [](const std::string& argument) { return argument == "-h" || argument == "--help"; };
  if (std::any_of(arguments.begin(), arguments.end(), asks_for_help)) return false;
  if (arguments[0] == "eval" || arguments[0] == "predict") return true;
  return arguments.size() > 1 && arguments[0] == "weights" && (arguments[1] == "convert" || arguments[1] == "export");
}

/// Becomes mmkd-torch, which lies beside this program.
[[noreturn]] void become_helper(char** argv) {
  const auto helper = std::filesystem::read_symlink("/proc/self/exe").parent_path() / "mmkd-torch";
  execv(helper.c_str(), argv);
  throw Error("{}: cannot be started: {}", helper.string(), std::strerror(errno));
}

struct Arguments {
  std::string config;
  std::vector<std::string> overrides;
  std::string weights;
  std::vector<std::filesystem::path> runs;
  std::filesystem::path report;
  std::string title;
};

/// The comparison of finished runs as the end of the file's name says.
std::string report_text(const Arguments& arguments, const FinishedRuns& found) {
  const auto extension = arguments.report.extension();
  if (extension == ".html") {
    ReportOptions options{.made = utc_timestamp()};
    if (!arguments.title.empty()) options.title = arguments.title;
    return report_page(report_model(found, collect_samples(found.runs), options));
  }
  const auto table = comparison(found.runs);
  return extension == ".csv" ? csv(table) : extension == ".tex" ? latex(table) : markdown(table);
}

void report_runs(const Arguments& arguments) {
  const auto& file = arguments.report;
  const auto extension = file.extension();
  if (!file.empty() && extension != ".html" && extension != ".md" && extension != ".csv" && extension != ".tex")
    throw UsageError("{}: expected a name that ends in .html, .md, .csv or .tex", file.string());
  auto places = arguments.runs;
  for (auto& place : places) {
    if (place.extension() == ".yaml" && fs::is_regular_file(place)) place = load_sweep(place).logs;
  }
  const auto found = read_runs(places);
  for (const auto& folder : found.left_out)
    std::fprintf(stderr, "mmkd: left out, since it has no results.json: %s\n", folder.c_str());
  const auto text = report_text(arguments, found);
  if (file.empty()) {
    std::fputs(text.c_str(), stdout);
  } else {
    write_file_atomic(file, text);
  }
}

int run(int argc, char** argv, CLI::App& app) {
  Arguments arguments;
  SweepCommands sweep;
  app.set_version_flag("--version", std::string("mmkd ") + kVersion);
  app.require_subcommand(1);
  auto* config = app.add_subcommand("config", "Look at configurations");
  config->require_subcommand(1);
  auto* show = config->add_subcommand("show", "Every key with its value and where the value came from");
  show->add_option("config", arguments.config, "YAML configuration")->required();
  show->add_option("--set", arguments.overrides, "Override a key (repeatable)")->expected(1)->take_all();
  auto* reference = config->add_subcommand("reference", "The reference of all keys, as Markdown");
  auto* report = app.add_subcommand("report", "Compare finished runs: a page with charts, or a table");
  report->add_option("runs", arguments.runs, "Log folders of runs, folders of them, or sweeps (.yaml)")->required();
  report->add_option(
      "--out", arguments.report,
      "File: .html, a page with charts that opens offline; .md, .csv or .tex, a table (default: the table "
      "as Markdown, to the terminal)");
  report->add_option("--title", arguments.title, "Title of the page (default: Distillation report)");
  sweep.add_to(app);
  // Known here for help, man page and completion: their command lines never get as far as this.
  EvalArguments eval;
  eval.add_to(*app.add_subcommand(eval.kName, eval.kMeaning));
  PredictArguments predict;
  predict.add_to(*app.add_subcommand(predict.kName, predict.kMeaning));
  auto* weights = app.add_subcommand("weights", "Weights of trained and pretrained models");
  weights->require_subcommand(1);
  auto* inspect = weights->add_subcommand("inspect", "Names, types and shapes, and what the file says about itself");
  inspect->add_option("place", arguments.weights, "A weights file, or a folder of them")->required();
  ConvertArguments convert;
  convert.add_to(*weights->add_subcommand(convert.kName, convert.kMeaning));
  ExportArguments export_arguments;
  export_arguments.add_to(*weights->add_subcommand(export_arguments.kName, export_arguments.kMeaning));
  add_document_options(app, "mmkd");

  app.parse(argc, argv);
  if (show->parsed()) std::fputs(config_show(load_config(arguments.config, arguments.overrides)).c_str(), stdout);
  if (reference->parsed()) std::fputs(configuration_reference().c_str(), stdout);
  if (report->parsed()) report_runs(arguments);
  if (inspect->parsed()) std::fputs(describe_weights(arguments.weights).c_str(), stdout);
  return sweep.run();
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("mmkd: the tools around packing and training");
  try {
    if (needs_tensors({argv + 1, argv + argc})) become_helper(argv);
    return run(argc, argv, app);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : static_cast<int>(ExitCode::usage);
  } catch (const Error& e) {
    std::fprintf(stderr, "mmkd: %s\n", e.what());
    return static_cast<int>(e.code());
  } catch (const std::exception& e) {
    std::fprintf(stderr, "mmkd: %s\n", e.what());
    return static_cast<int>(ExitCode::failure);
  }
}
