#include "mmkd/base/error.h"
#include "mmkd/base/files.h"
#include "mmkd/config/zoo.h"
#include "mmkd/data/pack.h"
#include "mmkd/text/tokenizer_files.h"

namespace mmkd {
namespace {

ImagePolicy policy_of(const VisionConfig& vision, const fs::path& weights_root) {
  if (vision.inline_size()) return vit_policy(vision.image_size);
  const auto file = resolve_model_folder(TowerKind::vision, vision.name, weights_root, default_hf_home()) /
                    "preprocessor_config.json";
  if (!fs::exists(file))
    throw UsageError(
        "{}: not found; it says how pictures are prepared for {}. Get it from where the weights came from.",
        file.string(), vision.name);
  auto policy = read_image_policy(file);
  (void)policy.output_size();  // refuses policies whose pictures differ in size
  return policy;
}

/// A tokenizer by name: a file, a folder with one, or a text tower of the zoo.
fs::path tokenizer_file(const std::string& name, const fs::path& weights_root) {
  if (fs::is_regular_file(name)) return name;
  if (!zoo_id(TowerKind::text, name) && fs::is_directory(name)) return find_tokenizer_file(name);
  return find_tokenizer_file(resolve_model_folder(TowerKind::text, name, weights_root, default_hf_home()));
}

TowerTokenizer tokenizer_of(const std::string& role, const ModelConfig& model, const fs::path& weights_root) {
  std::string name = model.tokenizer.name;
  if (name.empty()) name = model.arch == StudentArch::custom_tiny ? "bert-mini" : model.text.name;
  if (name.empty()) {
    throw UsageError(
        "{}.tokenizer is not set: {}.text gives a size, and a size has no tokenizer. Name a vocab.txt, e.g. "
        "{}.tokenizer: config/tokenizers/bert-uncased/vocab.txt",
        role, role, role);
  }
  const auto file = tokenizer_file(name, weights_root);
  return {file, resolve_settings(model.tokenizer, read_tokenizer_settings(file))};
}

}  // namespace

PackInputs resolve_pack_inputs(const Config& config) {
  const auto& root = config.weights.root;
  // Without a teacher, or a student, the other's inputs serve both: nothing else is stored.
  const bool teacher = !without_teacher(config);
  const bool student = !config.training.teacher_only;
  PackInputs inputs;
  if (teacher) {
    inputs.policies[0] = policy_of(config.teacher.vision, root);
    inputs.tokenizers[0] = tokenizer_of("teacher", config.teacher, root);
  }
  if (student) {
    inputs.policies[1] = policy_of(config.student.vision, root);
    inputs.tokenizers[1] = tokenizer_of("student", config.student, root);
  }
  if (!teacher) {
    inputs.policies[0] = inputs.policies[1];
    inputs.tokenizers[0] = inputs.tokenizers[1];
  }
  if (!student) {
    inputs.policies[1] = inputs.policies[0];
    inputs.tokenizers[1] = inputs.tokenizers[0];
  }
  return inputs;
}

}  // namespace mmkd
