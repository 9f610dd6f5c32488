#include "validate.h"

#include <map>
#include <string>

#include "mmkd/base/error.h"
#include "mmkd/config/names.h"

namespace mmkd::config_detail {
namespace {

constexpr const char* kCustom = "custom";

void check_data(const DataConfig& data, Findings& findings) {
  if (data.root.empty() && data.packed.empty())
    findings.missing("data.root", "expected the folder of the data set, found nothing", {"data.packed"});
  const DataConfig defaults;
  if (data.type == DatasetType::table) {
    if (data.table.train.empty()) findings.missing("data.table.train", "expected a file, found nothing", {"data.type"});
    if (data.table.dev.empty()) findings.missing("data.table.dev", "expected a file, found nothing", {"data.type"});
    if (data.tasks.empty())
      findings.missing("data.tasks", "expected at least one task of the table, found none", {"data.type"});
    if (!data.task1_label.empty() || !data.task2_label.empty())
      findings.notes.emplace_back(
          "data.task1_label, data.task2_label: not used with data.type table; data.tasks has labels");
  } else if (!data.tasks.empty()) {
    findings.conflict({"data.tasks", "data.type"},
                      fmt::format("expected none with data.type {}, whose two tasks are fixed (data.task1_label and "
                                  "data.task2_label name them), found {}",
                                  to_string(data.type), data.tasks.size()));
  }
  if (data.type != DatasetType::table && !(data.table == defaults.table))
    findings.notes.push_back(fmt::format("data.table: not used with data.type {}", to_string(data.type)));
  const bool wound_columns =
      data.type_column != defaults.type_column || data.filepath_column != defaults.filepath_column ||
      data.severity_column != defaults.severity_column || data.description_column != defaults.description_column;
  if (data.type != DatasetType::wound && wound_columns)
    findings.notes.push_back(fmt::format("data.*_column: not used with data.type {}", to_string(data.type)));
}

/// Metrics are named by the slugs of the labels.
void check_task_labels(const DataConfig& data, Findings& findings) {
  const std::vector<std::string> keys = data.type == DatasetType::table
                                            ? std::vector<std::string>{"data.tasks"}
                                            : std::vector<std::string>{"data.task2_label", "data.task1_label"};
  std::map<std::string, std::string> seen;
  for (const auto& task : resolved_tasks(data)) {
    const std::string key = slug(task.label);
    if (key.empty())
      findings.conflict(keys,
                        fmt::format("expected a label with a letter or digit a-z, 0-9, found \"{}\"", task.label));
    else if (const auto [at, added] = seen.emplace(key, task.label); !added)
      findings.conflict(
          keys, fmt::format("expected labels that differ, found \"{}\" and \"{}\", both \"{}\" in metrics", at->second,
                            task.label, key));
  }
}

/// Reports unless `divisor` divides `value`.
void check_divides(Findings& findings, const std::string& section, const char* value_key, std::int64_t value,
                   const char* divisor_key, std::int64_t divisor) {
  if (divisor > 0 && value % divisor == 0) return;
  findings.conflict({child_path(section, divisor_key), child_path(section, value_key)},
                    fmt::format("expected {} to divide {}, found {} and {}", divisor_key, value_key, divisor, value));
}

void check_vision(const VisionConfig& vision, const std::string& path, Findings& findings) {
  if (!vision.inline_size()) return;
  if (vision.family != VisionFamily::vit && vision.family != VisionFamily::deit)
    findings.conflict({path + ".family"},
                      fmt::format("expected vit or deit for an inline size, found {}; name a {} tower",
                                  to_string(vision.family), to_string(vision.family)));
  check_divides(findings, path, "hidden_size", vision.hidden_size, "num_attention_heads", vision.num_attention_heads);
  check_divides(findings, path, "image_size", vision.image_size, "patch_size", vision.patch_size);
}

void check_text_length(Findings& findings, const std::string& section, const char* key, std::int64_t value,
                       std::int64_t reserved, std::int64_t max_length) {
  if (value - reserved >= max_length) return;
  const std::string more = reserved == 0 ? "" : fmt::format(" + {}", reserved);
  findings.conflict(
      {child_path(section, key), "data.max_length"},
      fmt::format("expected {} to be at least data.max_length{}, found {} and {}", key, more, value, max_length));
}

void check_text(const ModelConfig& model, const std::string& path, std::int64_t max_length, Findings& findings) {
  const TextConfig& text = model.text;
  if (!text.inline_size()) return;
  const std::string section = path + ".text";
  if (text.family == TextFamily::mobilebert)
    findings.conflict({section + ".family"},
                      "expected bert, distilbert or roberta for an inline size, found mobilebert; "
                      "name a mobilebert tower");
  check_divides(findings, section, "hidden_size", text.hidden_size, "num_attention_heads", text.num_attention_heads);
  // RoBERTa's positions start behind the index of the padding token, which is 1.
  const std::int64_t reserved = text.family == TextFamily::roberta ? 2 : 0;
  check_text_length(findings, section, "max_position_embeddings", text.max_position_embeddings, reserved, max_length);
  if (model.tokenizer.name.empty())
    findings.missing(path + ".tokenizer",
                     "expected a tokenizer, since a text tower with an inline size has none of its own, found none",
                     {section});
}

bool has_attention(FusionType type) {
  switch (type) {
    case FusionType::simple:
    case FusionType::cross_attention:
    case FusionType::transformer_concat:
    case FusionType::energy_aware_adaptive:
    case FusionType::shomr:
      return true;
    case FusionType::concat_mlp:
    case FusionType::gated:
    case FusionType::film:
    case FusionType::modality_dropout:
      return false;
  }
  return false;
}

void check_custom(const Config& config, Findings& findings) {
  const CustomStudentConfig& custom = config.student.custom;
  const std::string path = "student.custom";
  check_divides(findings, path, "vision_d", custom.vision_d, "vision_heads", custom.vision_heads);
  check_divides(findings, path, "text_d", custom.text_d, "text_heads", custom.text_heads);
  check_text_length(findings, path, "max_len", custom.max_len, 0, config.data.max_length);
  if (custom.fusion_dim != config.student.fusion_dim)
    findings.conflict({path + ".fusion_dim", "student.fusion_dim"},
                      fmt::format("expected the same as student.fusion_dim {}, found {}", config.student.fusion_dim,
                                  custom.fusion_dim));
  findings.notes.emplace_back(
      "student: arch custom_tiny has a fusion gate of its own; fusion.type is for the teacher only");
}

void check_model(const Config& config, const ModelConfig& model, const std::string& path, Findings& findings) {
  if (model.arch == StudentArch::custom_tiny) return check_custom(config, findings);
  for (const std::string tower : {".vision", ".text"}) {
    const std::string& name = tower == ".vision" ? model.vision.name : model.text.name;
    const std::string both = path == "student"
                                 ? "; the custom student is student.vision: custom and student.text: custom "
                                   "together"
                                 : "; only a student can be custom";
    if (name == kCustom) findings.conflict({path + tower + ".name"}, "expected a tower, found \"custom\"" + both);
    if (!findings.given(path + tower) && name.empty())
      findings.missing(path + tower, "expected a name or an inline size, found nothing");
  }
  check_vision(model.vision, path + ".vision", findings);
  if (findings.given(path + ".text")) check_text(model, path, config.data.max_length, findings);
  if (has_attention(config.fusion.type))
    check_divides(findings, path, "fusion_dim", model.fusion_dim, "fusion_heads", model.fusion_heads);
}

void check_training(const Config& config, Findings& findings) {
  const TrainingConfig& training = config.training;
  const bool trains_teacher = training.teacher_epochs > 0;
  if (!trains_teacher && training.teacher_only)
    findings.conflict({"training.teacher_epochs", "training.teacher_only"},
                      "expected at least 1 with teacher_only, found 0");
  else if (!trains_teacher && config.teacher.weights.empty() && config.loss.type != LossType::ce_only)
    findings.conflict({"training.teacher_epochs", "teacher.weights", "loss.type"},
                      fmt::format("expected at least 1 with loss.type {}, found 0; for a ready teacher set "
                                  "teacher.weights, for no distillation loss.type: ce_only",
                                  to_string(config.loss.type)));
  if (training.student_epochs == 0 && !training.teacher_only)
    findings.conflict({"training.student_epochs", "training.teacher_only"},
                      "expected at least 1, found 0; for no student set training.teacher_only: true");
  if (training.micro_batch_size > config.data.batch_size)
    findings.conflict({"training.micro_batch_size", "data.batch_size"},
                      fmt::format("expected at most data.batch_size {}, found {}", config.data.batch_size,
                                  training.micro_batch_size));
}

bool is_relational(LossType type) {
  switch (type) {
    case LossType::combined:
    case LossType::crd:
    case LossType::rkd:
    case LossType::mmd:
      return true;
    case LossType::vanilla:
    case LossType::ce_only:
      return false;
  }
  return false;
}

void note_overruled(const char* name, const std::optional<double>& training, const std::optional<double>& loss,
                    Findings& findings) {
  if (training && loss && *training != *loss)
    findings.notes.push_back(fmt::format("loss.{} {} is not used: training.{} {} wins", name, *loss, name, *training));
}

void check_loss(const Config& config, Findings& findings) {
  const LossConfig& loss = config.loss;
  const std::int64_t width = config.student.fusion_dim;
  if (loss.fusion_dim && *loss.fusion_dim != width && !config.training.teacher_only)
    findings.conflict({"loss.fusion_dim", "student.fusion_dim"},
                      fmt::format("expected the same as student.fusion_dim {}, found {}", width, *loss.fusion_dim));
  if (config.training.micro_batch_size > 0 && is_relational(loss.type))
    findings.conflict(
        {"training.micro_batch_size", "loss.type"},
        fmt::format("expected 0 with loss.type {}, which compares the samples of the whole batch, found {}",
                    to_string(loss.type), config.training.micro_batch_size));
  note_overruled("alpha", config.training.alpha, loss.alpha, findings);
  note_overruled("beta", config.training.beta, loss.beta, findings);
  note_overruled("gamma", config.training.gamma, loss.gamma, findings);
  note_overruled("T", config.training.T, loss.T, findings);
}

void check_fusion(const Config& config, Findings& findings) {
  const FusionConfig& fusion = config.fusion;
  if (fusion.type == FusionType::modality_dropout && fusion.p_img + fusion.p_txt > 1)
    findings.conflict({"fusion.p_txt", "fusion.p_img"},
                      fmt::format("expected p_img + p_txt of at most 1, since never both are dropped, found {} + {}",
                                  fusion.p_img, fusion.p_txt));
}

void check_evaluation(const Config& config, Findings& findings) {
  const EvaluationConfig& evaluation = config.evaluation;
  const bool wanted = evaluation.mcnemar || evaluation.mcnemar_exact || evaluation.mcnemar_cc;
  if (wanted && (config.training.teacher_only || without_teacher(config)))
    findings.notes.emplace_back("evaluation.mcnemar: not done, since it compares a teacher with a student");
}

}  // namespace

void settle(Config& config, Findings& findings) {
  ModelConfig& student = config.student;
  const bool vision_free = student.vision.name == kCustom || !findings.given("student.vision");
  const bool text_free = student.text.name == kCustom || !findings.given("student.text");
  const bool asked_by_name = student.vision.name == kCustom && student.text.name == kCustom;
  if (asked_by_name && student.arch == StudentArch::zoo) {
    if (findings.given("student.arch"))
      findings.conflict({"student.arch", "student.vision.name", "student.text.name"},
                        "expected custom_tiny with vision and text custom, found zoo");
    student.arch = StudentArch::custom_tiny;
  }
  if (student.arch != StudentArch::custom_tiny) return;
  if (!vision_free || !text_free)
    findings.conflict({"student.arch", "student.vision", "student.text"},
                      fmt::format("expected vision and text to be left out or custom with arch custom_tiny, found {}",
                                  vision_free ? "another text tower" : "another vision tower"));
  student.vision.name = student.text.name = kCustom;
  if (student.tokenizer.name.empty()) student.tokenizer.name = "bert-mini";
  if (!findings.given("student.fusion_dim"))
    student.fusion_dim = student.custom.fusion_dim;
  else if (!findings.given("student.custom.fusion_dim"))
    student.custom.fusion_dim = student.fusion_dim;
}

void validate(const Config& config, Findings& findings) {
  check_data(config.data, findings);
  check_task_labels(config.data, findings);
  if (!without_teacher(config)) check_model(config, config.teacher, "teacher", findings);
  if (!config.training.teacher_only) check_model(config, config.student, "student", findings);
  check_training(config, findings);
  check_loss(config, findings);
  check_fusion(config, findings);
  check_evaluation(config, findings);
}

}  // namespace mmkd::config_detail
