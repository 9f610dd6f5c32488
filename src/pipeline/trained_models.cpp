#include "mmkd/backbones/text_backbone.h"
#include "mmkd/backbones/vision_backbone.h"
#include "mmkd/base/log.h"
#include "mmkd/data/pack.h"
#include "mmkd/pipeline/job.h"
#include "mmkd/weights/export.h"
#include "mmkd/weights/load.h"

namespace mmkd {

std::shared_ptr<MultimodalModel> load_trained(const Job& job, const ModelSource& source,
                                              const StageArtifact& artifact) {
  auto model = make_model(source.spec, 0);  // every value is overwritten
  load_model_weights(
      model->named_weights(),
      artifact.folder / (source.role == Role::teacher ? "teacher.safetensors" : "student_best.safetensors"));
  model->to(job.world.device());
  model->eval();
  return model;
}

InputSpec input_of(const Job& job, const ModelSource& source) {
  InputSpec input = job.inputs[source.role == Role::teacher ? 0 : 1];
  input.modality = source.spec.modality;
  if (input.modality != Modality::image) input.min_padding = min_padding(source.spec.text);
  return input;
}

void export_towers(const Job& job, const StageArtifact& student, const std::filesystem::path& folder) {
  const auto model = load_trained(job, *job.student, student);
  if (model->vision() != nullptr) {
    const auto vision = model->vision()->named_weights();
    export_vision_tower(folder / "vision",
                        {.config = model->spec().vision, .entries = vision, .policy = job.packed.policies[1]});
  }
  if (model->text() == nullptr) return;
  if (model->spec().text.family == TextFamily::custom_text) {
    log::info(
        "{}: no text tower is exported: transformers has no class for custom_text; its weights are in "
        "student_best.safetensors",
        folder.string());
    return;
  }
  const auto text = model->text()->named_weights();
  const auto tokenizer = resolve_pack_inputs(job.config).tokenizers[1];
  export_text_tower(folder / "text", {.config = model->spec().text,
                                      .entries = text,
                                      .tokenizer_file = tokenizer.file,
                                      .settings = tokenizer.settings,
                                      .max_length = job.config.data.max_length});
}

}  // namespace mmkd
