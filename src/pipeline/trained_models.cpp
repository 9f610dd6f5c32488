#include "mmkd/data/pack.h"
#include "mmkd/pipeline/job.h"
#include "mmkd/weights/export.h"
#include "mmkd/weights/load.h"

namespace mmkd {

std::shared_ptr<MultimodalModel> load_trained(const Job& job, Role role, const StageArtifact& artifact) {
  const bool teacher = role == Role::teacher;
  const auto& source = teacher ? *job.teacher : *job.student;
  auto model = make_model(source.spec, 0);  // every value is overwritten
  load_model_weights(model->named_weights(),
                     artifact.folder / (teacher ? "teacher.safetensors" : "student_best.safetensors"));
  model->to(job.world.device());
  model->eval();
  return model;
}

void export_towers(const Job& job, const StageArtifact& student, const std::filesystem::path& folder) {
  const auto model = load_trained(job, Role::student, student);
  const auto vision = model->vision().named_weights();
  const auto text = model->text().named_weights();
  const auto tokenizer = resolve_pack_inputs(job.config).tokenizers[1];
  export_vision_tower(folder / "vision",
                      {.config = model->spec().vision, .entries = vision, .policy = job.packed.policies[1]});
  export_text_tower(folder / "text", {.config = model->spec().text,
                                      .entries = text,
                                      .tokenizer_file = tokenizer.file,
                                      .settings = tokenizer.settings,
                                      .max_length = job.config.data.max_length});
}

}  // namespace mmkd
