#pragma once
#include <CLI/CLI.hpp>

#include <cstdint>
#include <filesystem>
#include <optional>

#include "mmkd/config/config.h"
#include "mmkd/data/prediction_rows.h"
#include "mmkd/data/sample.h"
#include "mmkd/plan/plan.h"

// The command lines of the subcommands that mmkd-torch carries out: known to mmkd as well, for its help, its man page
// and its completion, so they are free of torch.
namespace mmkd {

/// What every subcommand that runs a model takes.
struct ModelArguments {
  std::filesystem::path place;
  std::optional<Role> role;
  Precision precision = Precision::fp32;
  Device device = Device::automatic;
  void add_place_to(CLI::App& app);  ///< place and role alone
  void add_to(CLI::App& app);
};

struct EvalArguments {
  static constexpr const char* kName = "eval";
  static constexpr const char* kMeaning = "Scores of a trained model on packed data";
  ModelArguments model;
  Split split = Split::test;
  std::filesystem::path packed, output;
  bool robustness = false;
  std::int64_t batch_size = 64, workers = 4;
  void add_to(CLI::App& app);
};

struct PredictArguments {
  static constexpr const char* kName = "predict";
  static constexpr const char* kMeaning = "Classify the samples of a table";
  ModelArguments model;
  std::filesystem::path input, output, image_root;
  PredictionColumns columns;
  std::int64_t batch_size = 32;
  bool skip_bad_rows = false;
  void add_to(CLI::App& app);
};

struct ConvertArguments {
  static constexpr const char* kName = "convert";
  static constexpr const char* kMeaning = "From one file format to another";
  std::filesystem::path input, output;
  void add_to(CLI::App& app);
};

struct ExportArguments {
  static constexpr const char* kName = "export";
  static constexpr const char* kMeaning = "Towers as Hugging Face folders, the whole model as safetensors and .pth";
  ModelArguments model;
  std::filesystem::path output;
  void add_to(CLI::App& app);
};

}  // namespace mmkd
