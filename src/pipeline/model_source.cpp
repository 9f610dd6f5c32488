#include "mmkd/pipeline/model_source.h"

#include <set>
#include <vector>

#include "mmkd/backbones/text_backbone.h"
#include "mmkd/backbones/vision_backbone.h"
#include "mmkd/base/error.h"
#include "mmkd/base/files.h"
#include "mmkd/config/names.h"
#include "mmkd/config/teachers.h"
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

void require_fits(const ModelSource& source, const TokenStream& stream) {
  const auto& text = source.spec.text;
  if (text.vocab_size < stream.vocab_size) {
    throw UsageError(
        "{}.text has {} word embeddings, but its tokenizer has {} tokens: name the tokenizer that belongs to it "
        "({}.tokenizer){}",
        name(source.role), text.vocab_size, stream.vocab_size, name(source.role),
        source.files.text.empty() ? fmt::format(", or set {}.text.vocab_size: {}", name(source.role), stream.vocab_size)
                                  : "");
  }
  if (longest_text(text) < stream.max_length) {
    throw UsageError("{}.text takes {} tokens at most, but data.max_length is {}: lower it", name(source.role),
                     longest_text(text), stream.max_length);
  }
}

const TokenStream& tokens_of(const PackedInfo& packed, Role role) {
  return packed.token_streams.at(static_cast<std::size_t>(packed.token_stream_of[role == Role::teacher ? 0 : 1]));
}

/// Entries of a model but for those of towers that come from a file, which gives them all.
std::vector<nn::WeightEntry> without_towers(std::vector<nn::WeightEntry> entries, const MultimodalModel& model,
                                            const ModelFiles& files) {
  std::set<const void*> from_files;
  const auto add = [&](const std::vector<nn::WeightEntry>& of_tower) {
    for (const auto& entry : of_tower) from_files.insert(entry.view.const_data_ptr());
  };
  if (!files.vision.empty()) add(model.vision()->named_weights());
  if (!files.text.empty()) add(model.text()->named_weights());
  std::erase_if(entries,
                [&](const nn::WeightEntry& entry) { return from_files.contains(entry.view.const_data_ptr()); });
  return entries;
}

void resolve_vision(ModelSource& source, ModelConfig& model) {
  source.vision_name = model.vision.name;
  if (model.vision.inline_size()) {
    const auto& vision = model.vision;
    const bool transformer = vision.family == VisionFamily::vit || vision.family == VisionFamily::deit;
    source.vision_name = transformer ? size_name(to_string(vision.family), vision.num_hidden_layers, vision.hidden_size)
                                     : fmt::format("{}-{}", to_string(vision.family), feature_width(vision));
    return;
  }
  const auto batch_norm = model.vision.batch_norm;
  const auto& folder = source.files.vision;
  model.vision = vision_config_from_hf(read_config(folder), (folder / "config.json").string());
  model.vision.batch_norm = batch_norm;
}

void resolve_text(ModelSource& source, ModelConfig& model, const TokenStream& stream) {
  source.text_name = model.text.name;
  if (model.text.inline_size()) {
    source.text_name = size_name(to_string(model.text.family), model.text.num_hidden_layers, model.text.hidden_size);
    if (model.text.vocab_size == 0) model.text.vocab_size = stream.vocab_size;
    model.text.pad_token_id = stream.pad_id;
    return;
  }
  const auto& folder = source.files.text;
  model.text = text_config_from_hf(read_config(folder), (folder / "config.json").string());
}

/// What a configuration says about one model.
struct Wanted {
  Role role = Role::teacher;
  ModelConfig model;
  FusionConfig fusion;
  fs::path weights;
};

ModelSource resolved(Wanted wanted, const Config& config, const PackedInfo& packed) {
  auto& model = wanted.model;
  const auto& stream = tokens_of(packed, wanted.role);
  ModelSource source;
  source.role = wanted.role;
  source.files = model_files(wanted.model, wanted.weights, config.weights.root);
  if (model.arch == StudentArch::custom_tiny) {
    model.vision = custom_vision(model.custom);
    model.text = custom_text(model.custom);
  }
  if (model.modality != Modality::text) resolve_vision(source, model);
  if (model.modality != Modality::image) resolve_text(source, model, stream);
  std::vector<TaskHead> heads;
  for (const auto& task : packed.tasks) {
    heads.push_back({slug(task.label), static_cast<std::int64_t>(task.classes.size())});
    source.task_slugs.push_back(heads.back().slug);
  }
  source.spec = make_model_spec(model, wanted.fusion, heads);
  if (model.modality != Modality::image) require_fits(source, stream);
  const bool conv_net =
      source.spec.vision.family == VisionFamily::mobilevit || source.spec.vision.family == VisionFamily::mobilenet_v2;
  if (conv_net && model.modality != Modality::text && model.vision.batch_norm == BatchNormMode::sync &&
      config.training.micro_batch_size > 0) {
    throw UsageError(
        "training.micro_batch_size: expected 0, or {}.batch_norm: frozen, since the batch norms of {} need the whole "
        "batch at once",
        name(source.role), source.vision_name);
  }
  return source;
}

}  // namespace

ModelSource::Widths ModelSource::widths() const {
  return {spec.modality == Modality::text ? 0 : feature_width(spec.vision),
          spec.modality == Modality::image ? 0 : spec.text.hidden_size};
}

std::vector<ModelSource> resolve_teachers(const Config& config, const PackedInfo& packed) {
  std::vector<ModelSource> teachers;
  for (const auto& source : teacher_sources(config)) {
    auto teacher = resolved({Role::teacher, source.model, source.fusion, source.weights}, config, packed);
    teacher.number = teachers.size();
    teacher.seed = static_cast<std::uint64_t>(source.seed);
    teacher.trained = source.trained;
    teachers.push_back(std::move(teacher));
  }
  return teachers;
}

ModelSource resolve_student(const Config& config, const PackedInfo& packed) {
  auto student = resolved({Role::student, config.student, config.fusion, config.student.weights}, config, packed);
  student.seed = static_cast<std::uint64_t>(config.training.seed);
  return student;
}

ParameterCounts count_parameters(const ModelSource& source) { return parameter_counts(source.spec); }

std::shared_ptr<MultimodalModel> initial_model(const ModelSource& source, std::uint64_t seed, Objective& objective) {
  auto model = std::make_shared<MultimodalModel>(source.spec);
  const at::NoGradGuard no_grad;
  const auto entries = model->named_weights();
  if (source.files.weights.empty()) {
    nn::initialize(without_towers(entries, *model, source.files), seed);
    if (!source.files.vision.empty())
      load_backbone(model->vision()->named_weights(), source.files.vision, names_of(source.spec.vision.family));
    if (!source.files.text.empty())
      load_backbone(model->text()->named_weights(), source.files.text, names_of(source.spec.text.family));
    return model;
  }
  const auto rest = load_model_weights(entries, source.files.weights, two_tower_aliases(source.task_slugs));
  for (const auto& entry : objective.named_weights()) {
    const auto found = rest.find("distill." + entry.name);
    if (found == rest.end()) continue;
    if (found->second.sizes() != entry.view.sizes())
      throw Error("{}: projection {} has another shape than this loss needs", source.files.weights.string(),
                  entry.name);
    at::Tensor view = entry.view;
    view.copy_(found->second);
  }
  return model;
}

}  // namespace mmkd
