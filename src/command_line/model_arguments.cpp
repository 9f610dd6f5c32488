#include "mmkd/command_line/model_arguments.h"

#include <map>
#include <string>

#include "mmkd/command_line/split_names.h"

namespace mmkd {
namespace {

const std::map<std::string, Role> kRoles{{"student", Role::student}, {"teacher", Role::teacher}};
const std::map<std::string, Precision> kPrecisions{{"fp32", Precision::fp32}, {"bf16", Precision::bf16}};
const std::map<std::string, Device> kDevices{{"auto", Device::automatic}, {"cpu", Device::cpu}, {"cuda", Device::cuda}};

}  // namespace

void ModelArguments::add_place_to(CLI::App& app) {
  app.add_option("model", place, "A run's log folder, or a .safetensors file that mmkd trained")->required();
  app.add_option("--model", role, "Of a run's folder: student or teacher (default: the student, if there is one)")
      ->transform(CLI::Transformer(kRoles));
}

void ModelArguments::add_to(CLI::App& app) {
  add_place_to(app);
  app.add_option("--precision", precision, "fp32 or bf16")->transform(CLI::CheckedTransformer(kPrecisions));
  app.add_option("--device", device, "auto, cpu or cuda")->transform(CLI::CheckedTransformer(kDevices));
}

void EvalArguments::add_to(CLI::App& app) {
  model.add_to(app);
  app.add_option("--split", split, "train, dev or test")->transform(CLI::CheckedTransformer(kSplitNames));
  app.add_option("--packed", packed, "Folder of packed data (default: that of the run)");
  app.add_flag("--robustness", robustness, "Also with noise, missing modalities and mismatched texts");
  app.add_option("--batch-size", batch_size, "Samples per forward")->check(CLI::PositiveNumber);
  app.add_option("--workers", workers, "Threads that prepare batches")->check(CLI::NonNegativeNumber);
  app.add_option("--out", output, "Write the scores as JSON, too");
}

void PredictArguments::add_to(CLI::App& app) {
  model.add_to(app);
  app.add_option("--input", input, "Table of samples, .csv or .jsonl")->required()->check(CLI::ExistingFile);
  app.add_option("--out", output, "File that receives one JSON object per line and sample")->required();
  app.add_option("--id-column", columns.id, "Column of the id")->capture_default_str();
  app.add_option("--image-column", columns.image, "Column of the image's path")->capture_default_str();
  app.add_option("--text-column", columns.text, "Column of the text")->capture_default_str();
  app.add_option("--image-root", image_root, "Folder that relative image paths start from (default: that of the table)")
      ->check(CLI::ExistingDirectory);
  app.add_option("--batch-size", batch_size, "Samples per forward")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_flag("--skip-bad-rows", skip_bad_rows,
               "Write an error for a row that cannot be used and go on, instead of ending");
}

void ConvertArguments::add_to(CLI::App& app) {
  app.add_option("input", input, "Weights: .safetensors, .bin, .pth, .pt, an index of shards, or a folder")->required();
  app.add_option("output", output, "A file that ends in .safetensors or .pth")->required();
}

void ExportArguments::add_to(CLI::App& app) {
  model.add_place_to(app);
  app.add_option("--out", output, "Folder that is made; an export that is there is replaced")->required();
}

}  // namespace mmkd
