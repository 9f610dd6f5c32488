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

/// Reports the section unless it is of the family that is configured.
void check_section(const std::string& path, std::string_view section, std::string_view family, bool named,
                   Findings& findings) {
  const std::string own = child_path(path, section);
  if (!findings.given(own) || (!named && section == family)) return;
  findings.conflict({own}, named ? fmt::format("has no meaning beside a name, whose folder says the size")
                                 : fmt::format("has no meaning with family {}", family));
}

void check_conv_net(const VisionConfig& vision, const std::string& path, Findings& findings) {
  for (const char* key : {"hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act",
                          "layer_norm_eps", "hidden_dropout", "patch_size", "qkv_bias"}) {
    if (findings.given(child_path(path, key)))
      findings.conflict({child_path(path, key)}, fmt::format("has no meaning with family {}, whose sizes are in {}.{}",
                                                             to_string(vision.family), path, to_string(vision.family)));
  }
  if (vision.family != VisionFamily::mobilevit) return;
  const auto& net = vision.mobilevit;
  const std::string own = path + ".mobilevit";
  if (net.hidden_sizes.size() != 3)
    findings.conflict({own + ".hidden_sizes"}, fmt::format("expected 3 numbers, found {}", net.hidden_sizes.size()));
  if (net.neck_hidden_sizes.size() != 7)
    findings.conflict({own + ".neck_hidden_sizes"},
                      fmt::format("expected 7 numbers, found {}", net.neck_hidden_sizes.size()));
  for (const auto width : net.hidden_sizes)
    check_divides(findings, own, "hidden_sizes", width, "num_attention_heads", net.num_attention_heads);
}

void check_output_stride(const std::string& path, std::int64_t stride, Findings& findings) {
  if (stride != 8 && stride != 16 && stride != 32)
    findings.conflict({path + ".output_stride"}, fmt::format("expected 8, 16 or 32, found {}", stride));
}

void check_vision(const VisionConfig& vision, const std::string& path, Findings& findings) {
  for (const char* section : {"mobilevit", "mobilenet_v2"})
    check_section(path, section, to_string(vision.family), !vision.inline_size(), findings);
  if (!vision.inline_size()) return;
  check_output_stride(path + ".mobilevit", vision.mobilevit.output_stride, findings);
  check_output_stride(path + ".mobilenet_v2", vision.mobilenet_v2.output_stride, findings);
  if (vision.family != VisionFamily::vit && vision.family != VisionFamily::deit)
    return check_conv_net(vision, path, findings);
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
  const std::string section = path + ".text";
  check_section(section, "mobilebert", to_string(text.family), !text.inline_size(), findings);
  if (!text.inline_size()) return;
  if (text.family == TextFamily::mobilebert && text.mobilebert.use_bottleneck)
    check_divides(findings, section + ".mobilebert", "intra_bottleneck_size", text.mobilebert.intra_bottleneck_size,
                  "num_attention_heads", text.num_attention_heads);
  else
    check_divides(findings, section, "hidden_size", text.hidden_size, "num_attention_heads", text.num_attention_heads);
  // RoBERTa's positions start behind the index of the padding token; MobileBERT's trigrams need a column of padding.
  const std::int64_t reserved = text.family == TextFamily::roberta      ? text.pad_token_id + 1
                                : text.family == TextFamily::mobilebert ? 1
                                                                        : 0;
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
    case FusionType::gated_mlp:
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

/// One loop for both models: nothing is cached, and there is one teacher that is trained.
bool compares_samples(const Config& config) {
  const auto terms = resolved_loss(config);
  return std::any_of(terms.begin(), terms.end(), [](const LossTerm& term) { return is_relational(term.type); });
}

void check_joint(const Config& config, Findings& findings) {
  const auto wrong = [&](const std::vector<std::string>& keys, const char* message) {
    findings.conflict(keys, message);
  };
  if (!distils(config))
    wrong({"training.mode", "loss.type", "loss.terms"}, "expected a loss that compares with a teacher with mode joint");
  if (config.training.teacher_only) wrong({"training.teacher_only", "training.mode"}, "expected false with mode joint");
  if (!config.teacher.runs.empty()) wrong({"teacher.runs", "training.mode"}, "expected none with mode joint");
  if (!config.teacher.seeds.empty()) wrong({"teacher.seeds", "training.mode"}, "expected none with mode joint");
  if (config.training.micro_batch_size > 0 && compares_samples(config))
    wrong({"training.micro_batch_size", "training.mode"},
          "expected 0 with mode joint and a loss that compares samples with one another");
}

/// A teacher of several, or from runs.
void check_teachers(const Config& config, Findings& findings) {
  const auto& teacher = config.teacher;
  if (!teacher.runs.empty()) {
    for (const char* key :
         {"teacher.vision", "teacher.text", "teacher.weights", "teacher.seeds", "teacher.tokenizer"}) {
      if (findings.given(key)) findings.conflict({key}, "has no meaning beside teacher.runs, which bring their own");
    }
  }
  if (teacher.modality != Modality::both && !config.training.teacher_only)
    findings.conflict({"teacher.modality"}, fmt::format("expected both, unless training.teacher_only is set, found {}",
                                                        to_string(teacher.modality)));
}

void check_augment(const AugmentConfig& augment, Findings& findings) {
  const AugmentConfig defaults;
  AugmentConfig without_views = augment;
  without_views.views = 0;
  if (augment.views == 0 && without_views != defaults)
    findings.conflict(
        {"augment.views", "augment.random_resized_crop", "augment.horizontal_flip", "augment.color_jitter"},
        "expected augment.views of at least 1 with augmentations, found 0");
}

void check_training(const Config& config, Findings& findings) {
  const TrainingConfig& training = config.training;
  const bool trains_teacher = training.teacher_epochs > 0;
  if (!trains_teacher && training.teacher_only)
    findings.conflict({"training.teacher_epochs", "training.teacher_only"},
                      "expected at least 1 with teacher_only, found 0");
  else if (!trains_teacher && config.teacher.weights.empty() && config.teacher.runs.empty() && distils(config) &&
           training.mode == TrainingMode::two_stage)
    findings.conflict({"training.teacher_epochs", "teacher.weights", "loss.type", "loss.terms"},
                      "expected at least 1 with a loss that compares with a teacher, found 0; for a ready teacher set "
                      "teacher.weights or teacher.runs, for no distillation loss.type: ce_only");
  if (training.mode == TrainingMode::joint) check_joint(config, findings);
  if (training.student_epochs == 0 && !training.teacher_only)
    findings.conflict({"training.student_epochs", "training.teacher_only"},
                      "expected at least 1, found 0; for no student set training.teacher_only: true");
  if (training.cuda_graphs && training.micro_batch_size > 0)
    findings.conflict({"training.cuda_graphs", "training.micro_batch_size"},
                      fmt::format("graphs hold whole steps: expected 0 with training.cuda_graphs, found {}",
                                  training.micro_batch_size));
  if (training.cuda_graphs && training.spike_factor > 0)
    findings.conflict({"training.cuda_graphs", "training.spike_factor"},
                      fmt::format("each loss would be waited for: expected 0 with training.cuda_graphs, found {}",
                                  training.spike_factor));
  if (training.micro_batch_size > config.data.batch_size)
    findings.conflict({"training.micro_batch_size", "data.batch_size"},
                      fmt::format("expected at most data.batch_size {}, found {}", config.data.batch_size,
                                  training.micro_batch_size));
}

void note_overruled(const char* name, const std::optional<double>& training, const std::optional<double>& loss,
                    Findings& findings) {
  if (training && loss && *training != *loss)
    findings.notes.push_back(fmt::format("loss.{} {} is not used: training.{} {} wins", name, *loss, name, *training));
}

void check_terms(const Config& config, Findings& findings) {
  const auto& training = config.training;
  if (findings.given("loss.type"))
    findings.conflict({"loss.terms", "loss.type"}, "expected terms or a type, found both");
  for (const auto& [name, value] :
       {std::pair("alpha", training.alpha), {"beta", training.beta}, {"gamma", training.gamma}, {"T", training.T}}) {
    if (value)
      findings.notes.push_back(fmt::format("training.{} is not used: loss.terms has constants of its own", name));
  }
  for (const char* key : {"alpha", "beta", "gamma", "T", "tau", "ce_weight", "mmd_bandwidth"}) {
    const std::string path = child_path("loss", key);
    if (findings.given(path))
      findings.conflict({path}, "has no meaning beside loss.terms, which has constants of its own");
  }
}

void check_loss(const Config& config, Findings& findings) {
  const LossConfig& loss = config.loss;
  const std::int64_t width = config.student.fusion_dim;
  if (loss.fusion_dim && *loss.fusion_dim != width && !config.training.teacher_only)
    findings.conflict({"loss.fusion_dim", "student.fusion_dim"},
                      fmt::format("expected the same as student.fusion_dim {}, found {}", width, *loss.fusion_dim));
  if (!loss.terms.empty()) return check_terms(config, findings);
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
  if (!without_teacher(config) && config.teacher.runs.empty()) check_model(config, config.teacher, "teacher", findings);
  if (!config.training.teacher_only) check_model(config, config.student, "student", findings);
  check_training(config, findings);
  check_loss(config, findings);
  check_fusion(config, findings);
  check_teachers(config, findings);
  check_augment(config.augment, findings);
  check_evaluation(config, findings);
}

}  // namespace mmkd::config_detail
