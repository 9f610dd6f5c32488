// mmkd-pack: a data set of images, texts and labels -> sharded, checksummed HDF5.
#include <CLI/CLI.hpp>

#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include "mmkd/base/error.h"
#include "mmkd/base/log.h"
#include "mmkd/base/signals.h"
#include "mmkd/comm/agree.h"
#include "mmkd/command_line/documents.h"
#include "mmkd/command_line/split_names.h"
#include "mmkd/config/load.h"
#include "mmkd/data/pack.h"
#include "mmkd/data/preview.h"
#include "mmkd/data/split_table.h"
#include "mmkd/version.h"

namespace {

using namespace mmkd;

void pack_config(const std::string& file, const std::vector<std::string>& overrides, const MpiSession& mpi) {
  LoadedConfig loaded;
  on_all_ranks(mpi, [&] { loaded = load_config(file, overrides); });
  const auto info = pack(loaded.config, mpi);
  if (mpi.rank() == 0) std::fputs(describe_pack(info.folder).c_str(), stdout);
}

int verify(const std::string& folder) {
  const auto problems = verify_pack(folder);
  for (const auto& problem : problems) std::fprintf(stderr, "mmkd-pack: %s\n", problem.c_str());
  if (problems.empty()) std::printf("%s: every byte and record verified\n", folder.c_str());
  return problems.empty() ? 0 : 1;
}

struct SplitCommand {
  SplitTableOptions options;
  std::vector<double> shares;

  void add_to(CLI::App& app) {
    app.add_option("table", options.table, "CSV table with a header: one row for each sample")
        ->required()
        ->check(CLI::ExistingFile);
    app.add_option("--out", options.output, "Folder of metadata_train.csv, metadata_dev.csv, metadata_test.csv")
        ->required();
    app.add_option("--stratify", options.stratify, "Columns whose classes keep their shares (default: type severity)");
    app.add_option("--shares", shares, "Of train, dev and test (default: 0.70 0.15 0.15)")->expected(3);
    app.add_option("--image-column", options.image_column, "Column of the image's path")->capture_default_str();
    app.add_option("--image-root", options.image_root, "Folder of the images (default: that of the table)")
        ->check(CLI::ExistingDirectory);
    app.add_option("--seed", options.seed, "Another seed, another division")->capture_default_str();
  }

  void run() {
    if (options.stratify.empty()) options.stratify = {"type", "severity"};
    if (!shares.empty()) std::copy(shares.begin(), shares.end(), options.shares.begin());
    const auto summary = split_table(options);
    std::printf("train %zu, dev %zu, test %zu rows; %zu different pictures, none in two splits\n", summary.rows[0],
                summary.rows[1], summary.rows[2], summary.pictures);
    for (const auto& missing : summary.missing) log::warn("{}", missing);
  }
};

struct PreviewCommand {
  std::string config;
  std::vector<std::string> overrides;
  PreviewOptions options;

  void add_to(CLI::App& app) {
    app.add_option("config", config, "YAML configuration (docs/configuration.md)")->required();
    app.add_option("--set", overrides, "Override a key (repeatable)")->expected(1)->take_all();
    app.add_option("--split", options.split, "train, dev or test")->transform(CLI::CheckedTransformer(kSplitNames));
    app.add_option("--samples", options.samples, "How many")->check(CLI::Range(1, 400))->capture_default_str();
    app.add_option("--columns", options.columns, "Beside each other")->check(CLI::Range(1, 40))->capture_default_str();
    app.add_option("--seed", options.seed, "Another seed, other samples")->capture_default_str();
    app.add_option("--out", options.output, "PNG file")->required();
  }

  void run() const {
    write_preview(load_config(config, overrides).config, options);
    std::printf("%s\n", options.output.c_str());
  }
};

/// Runs one subcommand; errors are printed once, by rank 0 where all ranks share them.
template <class Work>
int guarded(const MpiSession& mpi, const Work& work) {
  try {
    return work();
  } catch (const CollectiveError& e) {
    if (mpi.rank() == 0) std::fprintf(stderr, "mmkd-pack: %s\n", e.what());
    return static_cast<int>(e.code());
  } catch (const std::exception& e) {
    const auto* known = dynamic_cast<const Error*>(&e);
    std::fprintf(stderr, "mmkd-pack: %s\n", e.what());
    const int code = static_cast<int>(known != nullptr ? known->code() : ExitCode::failure);
    if (mpi.size() > 1) mpi.abort(code);
    return code;
  }
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app(
      "Packs a data set into sharded, checksummed HDF5:  mmkd-pack CONFIG\nUnder mpirun the ranks share the work; the "
      "result is the same.");
  app.set_version_flag("--version", std::string("mmkd ") + mmkd::kVersion);
  std::string config;
  std::string folder;
  std::vector<std::string> overrides;
  app.add_option("config", config, "YAML configuration (docs/configuration.md)");
  app.add_option("--set", overrides, "Override a key: --set data.root=DIR (repeatable)")->expected(1)->take_all();
  auto* verify_command = app.add_subcommand("verify", "Read every byte and record again; exit 1 if anything is wrong");
  auto* info_command = app.add_subcommand("info", "Counts, classes, sizes of a packed set");
  auto* demo_command = app.add_subcommand("demo-data", "Write a small generated data set");
  for (auto* command : {verify_command, info_command, demo_command})
    command->add_option("folder", folder, "Folder")->required();
  SplitCommand split;
  auto* split_command =
      app.add_subcommand("split", "Divide a table into train, dev and test, no picture in two of them");
  split.add_to(*split_command);
  PreviewCommand preview;
  auto* preview_command = app.add_subcommand("preview", "Draw samples with labels and texts into a PNG file");
  preview.add_to(*preview_command);
  app.require_subcommand(0, 1);
  add_document_options(app, "mmkd-pack");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : static_cast<int>(ExitCode::usage);
  }
  const MpiSession mpi;
  log::configure(mpi.rank() == 0 ? log::Level::info : log::Level::error,
                 mpi.size() > 1 ? fmt::format("rank {}", mpi.rank()) : "");
  install_stop_handlers();
  return guarded(mpi, [&] {
    if (verify_command->parsed()) return verify(folder);
    if (info_command->parsed()) {
      std::fputs(describe_pack(folder).c_str(), stdout);
    } else if (demo_command->parsed()) {
      write_demo_data(folder);
      std::printf("demo data in %s\n", folder.c_str());
    } else if (split_command->parsed()) {
      split.run();
    } else if (preview_command->parsed()) {
      preview.run();
    } else if (config.empty()) {
      throw UsageError("which CONFIG? (see mmkd-pack --help)");
    } else {
      pack_config(config, overrides, mpi);
    }
    return 0;
  });
}
