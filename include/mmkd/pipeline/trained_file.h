#pragma once
#include <filesystem>
#include <optional>

#include "mmkd/models/model_card.h"
#include "mmkd/plan/plan.h"
#include "mmkd/train/batch.h"

// Trained models outside of a job: from a run's folder or from a weights file.
namespace mmkd {

/// `place`: a weights file, or a run's log folder, which stands for its student_best.safetensors or (role teacher, or
/// where there is no student) its teacher.safetensors. Throws UsageError for anything else.
std::filesystem::path trained_file(const std::filesystem::path& place, std::optional<Role> role);

/// How the model reads packed data. Throws UsageError if the data was made for other pictures, another tokenizer or
/// other tasks than the model has.
InputSpec input_of(const ModelCard& card, const PackedInfo& packed);

/// How the model reads records whose only streams were made for it.
InputSpec input_of(const ModelCard& card);

/// The towers as Hugging Face folders, `<folder>/vision` and `<folder>/text`, as far as transformers has a class.
void export_towers(const OpenedModel& model, const std::filesystem::path& folder);

/// Writes all of a trained model for other programs: the towers, model.safetensors and model.pth. The folder appears
/// whole, or not at all.
void export_model(const OpenedModel& model, const std::filesystem::path& folder);

}  // namespace mmkd
