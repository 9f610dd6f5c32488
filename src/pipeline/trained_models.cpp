#include <algorithm>

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
  auto model = std::make_shared<MultimodalModel>(source.spec);  // every value comes from the file
  load_model_weights(
      model->named_weights(),
      artifact.folder / (source.role == Role::teacher ? "teacher.safetensors" : "student_best.safetensors"));
  model->to(job.world.device());
  model->eval();
  return model;
}

ModelCard model_card(const Job& job, const ModelSource& source) {
  const std::size_t role = source.role == Role::teacher ? 0 : 1;
  ModelCard card{.spec = source.spec,
                 .vision_name = source.vision_name,
                 .text_name = source.text_name,
                 .policy = job.packed.policies[role],
                 .tokenizer = {},
                 .tokenizer_settings = {},
                 .max_length = 0,
                 .tasks = {}};
  for (const auto& task : job.packed.tasks) card.tasks.push_back({task.label, task.classes});
  if (source.spec.modality == Modality::image) return card;
  // The data decides, and with data.packed it need not be what the configuration would have packed.
  const auto& stream = job.packed.token_streams.at(static_cast<std::size_t>(job.packed.token_stream_of[role]));
  card.max_length = stream.max_length;
  const auto tokenizer = resolve_pack_inputs(job.config).tokenizers[role];
  card.tokenizer = read_tokenizer_text(tokenizer.file);
  card.tokenizer_settings = tokenizer.settings;
  if (WordPieceTokenizer::from_text(card.tokenizer, card.tokenizer_settings).digest() != stream.tokenizer_digest) {
    throw UsageError(
        "{}: its texts were not encoded by {}, which the configuration names for the {}; name the tokenizer that "
        "packed "
        "them, or pack again",
        job.packed.folder.string(), tokenizer.file.string(), name(source.role));
  }
  return card;
}

InputSpec input_of(const Job& job, const ModelSource& source) {
  InputSpec input = job.inputs[source.role == Role::teacher ? 0 : 1];
  input.modality = source.spec.modality;
  if (input.modality == Modality::image) return input;
  input.min_padding = min_padding(source.spec.text);
  input.longest_text = job.config.data.max_length;
  if (source.role == Role::teacher) {  // several teachers read the same batches
    for (const auto& teacher : job.teachers)
      input.min_padding = std::max(input.min_padding, min_padding(teacher.spec.text));
  }
  return input;
}

std::int64_t mean_tokens(const Job& job, const ModelSource& source) {
  if (source.spec.modality == Modality::image) return 0;
  const PackedSplit train(job.packed, Split::train, false);
  std::int64_t tokens = 0;
  for (std::int64_t i = 0; i < train.size(); ++i) tokens += train.length(i, input_of(job, source).token_stream);
  return std::max<std::int64_t>(1, tokens / train.size());
}

}  // namespace mmkd
