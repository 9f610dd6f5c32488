#include "mmkd/base/error.h"
#include "mmkd/base/files.h"
#include "mmkd/config/teachers.h"
#include "mmkd/config/zoo.h"
#include "mmkd/data/pack.h"
#include "mmkd/text/tokenizer_files.h"

namespace mmkd {
namespace {

ImagePolicy policy_of(const ModelConfig& model, const fs::path& weights_root) {
  const auto vision = model.arch == StudentArch::custom_tiny ? custom_vision(model.custom) : model.vision;
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

/// Those of the job's teachers, which see the same pictures and tokens.
void add_teacher(PackInputs& inputs, const std::vector<TeacherSource>& teachers, const fs::path& root) {
  const auto tokenizer_key = [](const TowerTokenizer& tokenizer) {
    const auto& [file, settings] = tokenizer;
    return WordPieceTokenizer::from_file(file, settings).digest();
  };
  for (std::size_t i = 0; i < teachers.size(); ++i) {
    const auto policy = policy_of(teachers[i].model, root);
    const auto tokenizer = tokenizer_of("teacher", teachers[i].model, root);
    if (i == 0) {
      inputs.policies[0] = policy;
      inputs.tokenizers[0] = tokenizer;
    } else if (!(policy == inputs.policies[0]) || tokenizer_key(tokenizer) != tokenizer_key(inputs.tokenizers[0])) {
      throw UsageError(
          "teacher: the first and number {} differ in how they prepare pictures or in their tokenizer; teachers of one "
          "job must see the same",
          i + 1);
    }
  }
}

}  // namespace

PackInputs resolve_pack_inputs(const Config& config) {
  const auto& root = config.weights.root;
  // Without a teacher, or a student, the other's inputs serve both: nothing else is stored.
  const auto teachers = teacher_sources(config);
  const bool student = !config.training.teacher_only;
  PackInputs inputs;
  add_teacher(inputs, teachers, root);
  if (student) {
    inputs.policies[1] = policy_of(config.student, root);
    inputs.tokenizers[1] = tokenizer_of("student", config.student, root);
  }
  if (teachers.empty()) {
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
