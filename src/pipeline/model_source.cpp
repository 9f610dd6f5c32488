#include "mmkd/pipeline/model_source.h"

#include "mmkd/base/error.h"
#include "mmkd/base/files.h"
#include "mmkd/config/names.h"
#include "mmkd/config/zoo.h"
#include "mmkd/weights/checkpoint.h"
#include "mmkd/weights/hf_config.h"
#include "mmkd/weights/load.h"

namespace mmkd {
namespace {

nlohmann::json read_config(const fs::path& folder) {
  const fs::path file = folder / "config.json";
  auto json = nlohmann::json::parse(read_file(file, std::uint64_t{1} << 20), nullptr, false);
  if (!json.is_object()) throw Error("{}: is no JSON object", file.string());
  return json;
}

std::string size_name(std::string_view family, std::int64_t layers, std::int64_t width) {
  return fmt::format("{}-{}x{}", family, layers, width);
}

void require_vocabulary(const ModelSource& source, const TokenStream& stream) {
  if (source.spec.text.vocab_size >= stream.vocab_size) return;
  throw UsageError(
      "{}.text has {} word embeddings, but its tokenizer has {} tokens: name the tokenizer that belongs to it "
      "({}.tokenizer){}",
      name(source.role), source.spec.text.vocab_size, stream.vocab_size, name(source.role),
      source.text_checkpoint.empty()
          ? fmt::format(", or set {}.text.vocab_size: {}", name(source.role), stream.vocab_size)
          : "");
}

}  // namespace

std::vector<std::pair<std::string, fs::path>> ModelSource::files() const {
  std::vector<std::pair<std::string, fs::path>> all;
  const auto add = [&](const char* part, const fs::path& path) {
    if (path.empty()) return;
    for (const auto& file : checkpoint_files(path))
      all.emplace_back(fmt::format("{}/{}/{}", name(role), part, file.filename().string()), file);
    if (fs::is_directory(path))
      all.emplace_back(fmt::format("{}/{}/config.json", name(role), part), path / "config.json");
  };
  add("vision", vision_checkpoint);
  add("text", text_checkpoint);
  add("weights", weights);
  return all;
}

ModelSource resolve_model(const Config& config, Role role, const PackedInfo& packed) {
  const bool teacher = role == Role::teacher;
  ModelConfig model = teacher ? config.teacher : config.student;
  if (model.arch == StudentArch::custom_tiny)
    throw UsageError(
        "student.arch: custom_tiny is not available in this version; give student.vision and student.text");
  ModelSource source;
  source.role = role;
  source.weights = model.weights;
  source.vision_name = model.vision.name;
  source.text_name = model.text.name;
  if (!model.vision.inline_size()) {
    source.vision_checkpoint =
        resolve_model_folder(TowerKind::vision, model.vision.name, config.weights.root, default_hf_home());
    model.vision = vision_config_from_hf(read_config(source.vision_checkpoint),
                                         (source.vision_checkpoint / "config.json").string());
  } else {
    source.vision_name =
        size_name(to_string(model.vision.family), model.vision.num_hidden_layers, model.vision.hidden_size);
  }
  const auto& stream = packed.token_streams.at(static_cast<std::size_t>(packed.token_stream_of[teacher ? 0 : 1]));
  if (!model.text.inline_size()) {
    source.text_checkpoint =
        resolve_model_folder(TowerKind::text, model.text.name, config.weights.root, default_hf_home());
    model.text =
        text_config_from_hf(read_config(source.text_checkpoint), (source.text_checkpoint / "config.json").string());
  } else {
    source.text_name = size_name(to_string(model.text.family), model.text.num_hidden_layers, model.text.hidden_size);
    if (model.text.vocab_size == 0) model.text.vocab_size = stream.vocab_size;
  }
  std::vector<TaskHead> heads;
  for (const auto& task : packed.tasks) {
    heads.push_back({slug(task.label), static_cast<std::int64_t>(task.classes.size())});
    source.task_slugs.push_back(heads.back().slug);
  }
  source.spec = make_model_spec(model, config.fusion, heads);
  require_vocabulary(source, stream);
  return source;
}

ParameterCounts count_parameters(const ModelSource& source) { return parameter_counts(source.spec); }

std::shared_ptr<MultimodalModel> initial_model(const ModelSource& source, std::uint64_t seed, Objective& objective) {
  auto model = make_model(source.spec, seed);
  const at::NoGradGuard no_grad;
  if (!source.vision_checkpoint.empty())
    load_backbone(model->vision().named_weights(), source.vision_checkpoint, names_of(source.spec.vision.family));
  if (!source.text_checkpoint.empty())
    load_backbone(model->text().named_weights(), source.text_checkpoint, names_of(source.spec.text.family));
  if (source.weights.empty()) return model;
  const auto rest = load_model_weights(model->named_weights(), source.weights, two_tower_aliases(source.task_slugs));
  for (const auto& entry : objective.named_weights()) {
    const auto found = rest.find("distill." + entry.name);
    if (found == rest.end()) continue;
    if (found->second.sizes() != entry.view.sizes())
      throw Error("{}: projection {} has another shape than this loss needs", source.weights.string(), entry.name);
    at::Tensor view = entry.view;
    view.copy_(found->second);
  }
  return model;
}

}  // namespace mmkd
