#include "mmkd/pipeline/trained_file.h"

#include "mmkd/base/error.h"
#include "mmkd/base/files.h"
#include "mmkd/base/log.h"
#include "mmkd/version.h"
#include "mmkd/weights/export.h"

namespace mmkd {
namespace {

/// The place in `streams` of the one for which `fits` holds.
template <class Stream, class Fits>
int stream_that(const std::vector<Stream>& streams, const Fits& fits, const fs::path& folder, std::string_view what) {
  for (std::size_t i = 0; i < streams.size(); ++i) {
    if (fits(streams[i])) return static_cast<int>(i);
  }
  throw UsageError(
      "{}: holds no {} as the model reads them; pack the data with the configuration that the model was trained with",
      folder.string(), what);
}

void require_tasks(const ModelCard& card, const PackedInfo& packed) {
  bool equal = card.tasks.size() == packed.tasks.size();
  for (std::size_t t = 0; equal && t < card.tasks.size(); ++t)
    equal = card.tasks[t].label == packed.tasks[t].label && card.tasks[t].classes == packed.tasks[t].classes;
  if (equal) return;
  const auto list = [](const auto& tasks) {
    std::string text;
    for (const auto& task : tasks)
      text += fmt::format("{}{} ({} classes)", text.empty() ? "" : ", ", task.label, task.classes.size());
    return text;
  };
  throw UsageError("{}: its tasks or classes are not the model's: expected {}, found {}", packed.folder.string(),
                   list(card.tasks), list(packed.tasks));
}

WordPieceTokenizer tokenizer_of(const ModelCard& card) {
  return WordPieceTokenizer::from_text(card.tokenizer, card.tokenizer_settings);
}

}  // namespace

fs::path trained_file(const fs::path& place, std::optional<Role> role) {
  if (fs::is_regular_file(place)) {
    if (role) throw UsageError("{}: is a file, so --model does not apply; give the run's folder", place.string());
    return place;
  }
  const fs::path student = place / "student_best.safetensors", teacher = place / "teacher.safetensors";
  if (role != Role::teacher && fs::exists(student)) return student;
  if (role != Role::student && fs::exists(teacher)) return teacher;
  throw UsageError("{}: no trained model; expected a .safetensors file, or the log folder of a finished run with {}",
                   place.string(),
                   role == Role::teacher   ? "teacher.safetensors"
                   : role == Role::student ? "student_best.safetensors"
                                           : "student_best.safetensors or teacher.safetensors");
}

InputSpec input_of(const ModelCard& card) {
  InputSpec input;
  input.modality = card.spec.modality;
  if (input.modality != Modality::text) {
    input.policy = card.policy;
    const auto [height, width] = card.policy.output_size();
    input.height = height;
    input.width = width;
  }
  if (input.modality != Modality::image) {
    input.pad_id = tokenizer_of(card).pad_id();
    input.min_padding = min_padding(card.spec.text);
  }
  return input;
}

InputSpec input_of(const ModelCard& card, const PackedInfo& packed) {
  require_tasks(card, packed);
  auto input = input_of(card);
  if (input.modality != Modality::text) {
    const auto key = card.policy.pixel_key();
    input.image_stream = stream_that(
        packed.image_streams, [&](const ImageStream& stream) { return stream.pixel_key == key; }, packed.folder,
        "pictures");
  }
  if (input.modality != Modality::image) {
    const auto digest = tokenizer_of(card).digest();
    input.token_stream = stream_that(
        packed.token_streams,
        [&](const TokenStream& stream) {
          return stream.tokenizer_digest == digest && stream.max_length == card.max_length;
        },
        packed.folder, "texts");
  }
  return input;
}

void export_towers(const OpenedModel& opened, const fs::path& folder) {
  const auto& [card, model] = opened;
  if (const auto* vision = model->vision())
    export_vision_tower(folder / "vision",
                        {.config = card.spec.vision, .entries = vision->named_weights(), .policy = card.policy});
  if (model->text() != nullptr && card.spec.text.family == TextFamily::custom_text) {
    log::info("{}: no text tower is written: transformers has no class for custom_text; the model's weights hold it",
              folder.string());
  } else if (const auto* text = model->text()) {
    export_text_tower(folder / "text", {.config = card.spec.text,
                                        .entries = text->named_weights(),
                                        .tokenizer = card.tokenizer,
                                        .settings = card.tokenizer_settings,
                                        .max_length = card.max_length});
  }
}

void export_model(const OpenedModel& opened, const fs::path& folder) {
  AtomicFolder out(folder);
  export_towers(opened, out.path());
  const auto& [card, model] = opened;
  save_model(out.path(), "model", model->named_weights(),
             {.version = kVersion, .tasks = card.tasks, .model = to_json_text(card)});
  std::move(out).commit(/*replace=*/true);
}

}  // namespace mmkd
