// mmkd-torch: the subcommands of mmkd that need tensors; mmkd starts it.
#include <CLI/CLI.hpp>

#include <cstdio>
#include <functional>
#include <optional>
#include <string>

#include "mmkd/base/error.h"
#include "mmkd/base/files.h"
#include "mmkd/base/log.h"
#include "mmkd/base/signals.h"
#include "mmkd/comm/agree.h"
#include "mmkd/comm/mpi_session.h"
#include "mmkd/command_line/model_arguments.h"
#include "mmkd/config/load.h"
#include "mmkd/data/pack.h"
#include "mmkd/pipeline/cpu_memory.h"
#include "mmkd/pipeline/device.h"
#include "mmkd/pipeline/evaluate_model.h"
#include "mmkd/pipeline/predict_rows.h"
#include "mmkd/pipeline/trained_file.h"
#include "mmkd/version.h"
#include "mmkd/weights/checkpoint.h"
#include "mmkd/weights/state_dict.h"

namespace {

using namespace mmkd;

OpenedModel opened(const ModelArguments& model) { return open_model(trained_file(model.place, model.role)); }

struct EvalCommand : EvalArguments {
  /// Of the run whose folder was given; nothing for a file of weights.
  std::optional<Config> run_config() const {
    const auto file = model.place / "config.yaml";
    if (!fs::exists(file)) return std::nullopt;
    return load_config(file).config;
  }

  PackedInfo data(const std::optional<Config>& config) const {
    if (!packed.empty()) return read_packed_info(packed);
    if (!config) throw UsageError("{}: is no run's folder; name the data by --packed", model.place.string());
    return read_packed_info(locate_pack(*config));
  }

  void run(const MpiSession& mpi) const {
    OpenedModel trained;
    PackedInfo info;
    EvaluationOptions options;
    at::DeviceType device = at::kCPU;
    on_all_ranks(mpi, [&] {
      device = choose_device(model.device);
      trained = opened(model);
      const auto config = run_config();
      info = data(config);
      if (config) options.seed = static_cast<std::uint64_t>(config->training.seed);
    });
    const auto world = make_world(mpi, device);
    options.batch_size = batch_size;
    options.num_workers = workers;
    options.precision = model.precision;
    const auto scores = evaluate_model(*world, trained, info, split, robustness, options);
    on_rank_zero(mpi, [&] { write(scores); });
  }

  void write(const std::vector<SplitScores>& scores) const {
    std::vector<std::pair<std::string, SplitScores>> rows;
    nlohmann::ordered_json json{{"model", model.place.string()}, {"split", name(split)}};
    for (const auto& one : scores) {
      rows.emplace_back("", one);
      json["scores"][one.split] = to_json(one);
    }
    std::fputs(score_table(rows).c_str(), stdout);
    if (!output.empty()) write_file_atomic(output, json.dump(1) + "\n");
  }
};

struct PredictCommand : PredictArguments {
  void run(const MpiSession& mpi) const {
    if (mpi.size() > 1) throw UsageError("predict runs as one process: start it without mpirun");
    const auto device = choose_device(model.device);
    const PredictOptions options{.input = input,
                                 .output = output,
                                 .columns = columns,
                                 .image_root = image_root,
                                 .batch_size = batch_size,
                                 .precision = model.precision,
                                 .skip_bad_rows = skip_bad_rows};
    const auto summary = predict_rows(opened(model), device, options);
    log::info("{}: {} samples in {:.1f} s", output.string(), summary.predicted, summary.seconds);
    if (summary.skipped > 0) log::warn("{} rows could not be used; the lines with \"error\" say why", summary.skipped);
  }
};

struct ConvertCommand : ConvertArguments {
  void run(const MpiSession&) const {
    const auto extension = output.extension();
    if (extension != ".safetensors" && extension != ".pth")
      throw UsageError("{}: expected a name that ends in .safetensors or .pth", output.string());
    const auto checkpoint = Checkpoint::open(input);
    std::vector<NamedTensor> tensors;
    for (const auto& tensor : checkpoint.names()) tensors.push_back({tensor, checkpoint.tensor(tensor)});
    if (extension == ".pth") {
      save_state_dict(output, tensors);
    } else {
      auto metadata = checkpoint.metadata();
      metadata.emplace("format", "pt");
      save_tensors(output, tensors, metadata);
    }
    log::info("{}: {} tensors", output.string(), tensors.size());
  }
};

struct ExportCommand : ExportArguments {
  /// Made by this command, with nothing else in it: it may be replaced.
  static bool is_export(const fs::path& folder) {
    if (!fs::is_directory(folder)) return false;
    for (const auto& entry : fs::directory_iterator(folder)) {
      const auto name = entry.path().filename();
      if (name != "model.safetensors" && name != "model.pth" && name != "vision" && name != "text") return false;
    }
    const auto weights = folder / "model.safetensors";
    return fs::exists(weights) ? Checkpoint::open(weights).metadata().contains("mmkd_model") : fs::is_empty(folder);
  }

  void run(const MpiSession&) const {
    if (fs::exists(output) && !is_export(output))
      throw UsageError("{}: exists and is no exported model; name another folder", output.string());
    export_model(opened(model), output);
    log::info("{}: written", output.string());
  }
};

int run_command(const std::function<void(const MpiSession&)>& command, const MpiSession& mpi) {
  log::configure(mpi.rank() == 0 ? log::Level::info : log::Level::error,
                 mpi.size() > 1 ? fmt::format("rank {}", mpi.rank()) : "");
  install_stop_handlers();
  divide_cores(mpi);
  keep_tensor_memory();
  try {
    command(mpi);
    log::flush();
    return 0;
  } catch (const CollectiveError& e) {
    log::flush();
    if (mpi.rank() == 0) std::fprintf(stderr, "mmkd: %s\n", e.what());
    return static_cast<int>(e.code());
  } catch (const std::exception& e) {
    log::flush();
    std::fprintf(stderr, "mmkd: %s\n", e.what());
    if (mpi.size() > 1) mpi.abort(1);  // its peers may wait in a collective
    const auto* error = dynamic_cast<const Error*>(&e);
    return static_cast<int>(error == nullptr ? ExitCode::failure : error->code());
  }
}

}  // namespace

int main(int argc, char** argv) {
  mmkd::keep_few_descriptors();
  CLI::App app("mmkd: what needs tensors");
  app.name("mmkd");
  app.require_subcommand(1);
  EvalCommand eval;
  eval.add_to(*app.add_subcommand(eval.kName, eval.kMeaning));
  PredictCommand predict;
  auto* predict_app = app.add_subcommand(predict.kName, predict.kMeaning);
  predict.add_to(*predict_app);
  auto* weights = app.add_subcommand("weights", "Weights of trained and pretrained models");
  weights->require_subcommand(1);
  ConvertCommand convert;
  auto* convert_app = weights->add_subcommand(convert.kName, convert.kMeaning);
  convert.add_to(*convert_app);
  ExportCommand export_command;
  auto* export_app = weights->add_subcommand(export_command.kName, export_command.kMeaning);
  export_command.add_to(*export_app);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : static_cast<int>(ExitCode::usage);
  }
  const MpiSession mpi;
  std::function<void(const MpiSession&)> command = [&](const MpiSession& m) { eval.run(m); };
  if (predict_app->parsed()) command = [&](const MpiSession& m) { predict.run(m); };
  if (convert_app->parsed()) command = [&](const MpiSession& m) { convert.run(m); };
  if (export_app->parsed()) command = [&](const MpiSession& m) { export_command.run(m); };
  return run_command(command, mpi);
}
