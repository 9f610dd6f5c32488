// mmkd-torch: the subcommands of mmkd that need tensors; mmkd starts it.
#include <CLI/CLI.hpp>

#include <cstdio>
#include <functional>
#include <map>
#include <optional>
#include <string>

#include "mmkd/base/error.h"
#include "mmkd/base/files.h"
#include "mmkd/base/log.h"
#include "mmkd/base/signals.h"
#include "mmkd/comm/agree.h"
#include "mmkd/comm/mpi_session.h"
#include "mmkd/config/load.h"
#include "mmkd/data/pack.h"
#include "mmkd/pipeline/device.h"
#include "mmkd/pipeline/evaluate_model.h"
#include "mmkd/pipeline/predict_rows.h"
#include "mmkd/pipeline/trained_file.h"
#include "mmkd/version.h"
#include "mmkd/weights/checkpoint.h"
#include "mmkd/weights/state_dict.h"

namespace {

using namespace mmkd;

const std::map<std::string, Role> kRoles{{"student", Role::student}, {"teacher", Role::teacher}};
const std::map<std::string, Precision> kPrecisions{{"fp32", Precision::fp32}, {"bf16", Precision::bf16}};
const std::map<std::string, Device> kDevices{{"auto", Device::automatic}, {"cpu", Device::cpu}, {"cuda", Device::cuda}};
const std::map<std::string, Split> kSplits{{"train", Split::train}, {"dev", Split::dev}, {"test", Split::test}};

/// What every subcommand that runs a model takes.
struct ModelChoice {
  fs::path place;
  std::optional<Role> role;
  Precision precision = Precision::fp32;
  Device device = Device::automatic;

  void add_to(CLI::App& app) {
    app.add_option("model", place, "A run's log folder, or a .safetensors file that mmkd trained")->required();
    app.add_option("--model", role, "Of a run's folder: student or teacher (default: the student, if there is one)")
        ->transform(CLI::Transformer(kRoles));
    app.add_option("--precision", precision, "fp32 or bf16")->transform(CLI::CheckedTransformer(kPrecisions));
    app.add_option("--device", device, "auto, cpu or cuda")->transform(CLI::CheckedTransformer(kDevices));
  }
  OpenedModel open() const { return open_model(trained_file(place, role)); }
};

struct EvalCommand {
  ModelChoice model;
  Split split = Split::test;
  fs::path packed, output;
  bool robustness = false;
  std::int64_t batch_size = 64, workers = 4;

  void add_to(CLI::App& app) {
    model.add_to(app);
    app.add_option("--split", split, "train, dev or test")->transform(CLI::CheckedTransformer(kSplits));
    app.add_option("--packed", packed, "Folder of packed data (default: that of the run)");
    app.add_flag("--robustness", robustness, "Also with noise, missing modalities and mismatched texts");
    app.add_option("--batch-size", batch_size, "Samples per forward")->check(CLI::PositiveNumber);
    app.add_option("--workers", workers, "Threads that prepare batches")->check(CLI::NonNegativeNumber);
    app.add_option("--out", output, "Write the scores as JSON, too");
  }

  PackedInfo data() const {
    if (!packed.empty()) return read_packed_info(packed);
    const auto config = model.place / "config.yaml";
    if (!fs::exists(config))
      throw UsageError("{}: is no run's folder; name the data by --packed", model.place.string());
    return read_packed_info(locate_pack(load_config(config).config));
  }

  void run(const MpiSession& mpi) const {
    OpenedModel opened;
    PackedInfo info;
    at::DeviceType device = at::kCPU;
    on_all_ranks(mpi, [&] {
      device = choose_device(model.device);
      opened = model.open();
      info = data();
    });
    const auto world = make_world(mpi, device);
    EvaluationOptions options;
    options.batch_size = batch_size;
    options.num_workers = workers;
    options.precision = model.precision;
    const auto config = model.place / "config.yaml";
    if (fs::exists(config)) options.seed = static_cast<std::uint64_t>(load_config(config).config.training.seed);
    const auto scores = evaluate_model(*world, opened, info, split, robustness, options);
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

struct PredictCommand {
  ModelChoice model;
  PredictOptions options;

  void add_to(CLI::App& app) {
    model.add_to(app);
    app.add_option("--input", options.input, "Table of samples, .csv or .jsonl")->required()->check(CLI::ExistingFile);
    app.add_option("--out", options.output, "File that receives one JSON object per line and sample")->required();
    app.add_option("--id-column", options.columns.id, "Column of the id")->capture_default_str();
    app.add_option("--image-column", options.columns.image, "Column of the image's path")->capture_default_str();
    app.add_option("--text-column", options.columns.text, "Column of the text")->capture_default_str();
    app.add_option("--image-root", options.image_root,
                   "Folder that relative image paths start from (default: that of the table)")
        ->check(CLI::ExistingDirectory);
    app.add_option("--batch-size", options.batch_size, "Samples per forward")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    app.add_flag("--skip-bad-rows", options.skip_bad_rows,
                 "Write an error for a row that cannot be used and go on, instead of ending");
  }

  void run(const MpiSession& mpi) {
    if (mpi.size() > 1) throw UsageError("predict runs as one process: start it without mpirun");
    const auto device = choose_device(model.device);
    options.precision = model.precision;
    const auto summary = predict_rows(model.open(), device, options);
    log::info("{}: {} samples in {:.1f} s", options.output.string(), summary.predicted, summary.seconds);
    if (summary.skipped > 0) log::warn("{} rows could not be used; the lines with \"error\" say why", summary.skipped);
  }
};

struct ConvertCommand {
  fs::path input, output;

  void add_to(CLI::App& app) {
    app.add_option("input", input, "Weights: .safetensors, .bin, .pth, .pt, an index of shards, or a folder")
        ->required();
    app.add_option("output", output, "A file that ends in .safetensors or .pth")->required();
  }

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

struct ExportCommand {
  ModelChoice model;
  fs::path output;

  void add_to(CLI::App& app) {
    app.add_option("model", model.place, "A run's log folder, or a .safetensors file that mmkd trained")->required();
    app.add_option("--model", model.role, "Of a run's folder: student or teacher")->transform(CLI::Transformer(kRoles));
    app.add_option("--out", output, "Folder that is made; an export that is there is replaced")->required();
  }

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
    export_model(model.open(), output);
    log::info("{}: written", output.string());
  }
};

int run_command(const std::function<void(const MpiSession&)>& command, const MpiSession& mpi) {
  log::configure(mpi.rank() == 0 ? log::Level::info : log::Level::error,
                 mpi.size() > 1 ? fmt::format("rank {}", mpi.rank()) : "");
  install_stop_handlers();
  divide_cores(mpi);
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
  CLI::App app("mmkd: what needs tensors");
  app.name("mmkd");
  app.require_subcommand(1);
  EvalCommand eval;
  auto* eval_app = app.add_subcommand("eval", "Scores of a trained model on packed data");
  eval.add_to(*eval_app);
  PredictCommand predict;
  auto* predict_app = app.add_subcommand("predict", "Classify the samples of a table");
  predict.add_to(*predict_app);
  auto* weights = app.add_subcommand("weights", "Weights of trained and pretrained models");
  weights->require_subcommand(1);
  ConvertCommand convert;
  auto* convert_app = weights->add_subcommand("convert", "From one file format to another");
  convert.add_to(*convert_app);
  ExportCommand export_command;
  auto* export_app =
      weights->add_subcommand("export", "Towers as Hugging Face folders, the whole model as safetensors and .pth");
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
