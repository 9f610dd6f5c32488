#pragma once
#include <array>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

// The configuration as plain structs: parsed once (config/load.h), handed on in parts. Defaults are those of the
// struct. Units are in the names or comments; the value that disables something is stated. src/config/keys.cpp lists
// every key with its document line; parsing, printing (config/print.h), docs/configuration.md and the stage keys all
// walk that list.
namespace mmkd {

enum class DatasetType { medpix, wound, table };
enum class OnBadSample { error, quarantine };
enum class OnBadRecord { error, quarantine };
enum class FusionType {
  simple,
  concat_mlp,
  cross_attention,
  gated,
  film,
  modality_dropout,
  transformer_concat,
  energy_aware_adaptive,
  shomr,
  gated_mlp
};
enum class LossType { vanilla, combined, crd, rkd, mmd, ce_only };
enum class Precision { fp32, bf16 };
enum class Schedule { constant, linear, cosine };
enum class TeacherSelect { last, best };
enum class TeacherOutputsFrom { cached, live };
enum class CacheFeatures { fp32, fp16 };
enum class TextPooling { cls, mean };
enum class VisionFamily { vit, deit, mobilevit, mobilenet_v2 };
enum class TextFamily { bert, distilbert, mobilebert, roberta, custom_text };
enum class BatchNormMode { sync, frozen };
enum class Modality { both, image, text };
enum class TrainingMode { two_stage, joint };
enum class Routing { straight_through, sampled };
enum class ProjectionMode { trained, frozen };
enum class MmdBandwidth { median, fixed };
enum class LossTermType { ce, kl, mse, crd, rkd_distance, rkd_angle, mmd, dkd, dist };
enum class StudentArch { zoo, custom_tiny };
enum class Device { automatic, cpu, cuda };

/// One classification task. `label` is the display name; keys of metrics use slug(label).
struct TaskConfig {
  std::string label;  ///< e.g. "modality"
  std::string
      column;  ///< where the class name is found: a CSV column or a JSON key ("Location Category", "a.b" descends)
  bool operator==(const TaskConfig&) const = default;
};

/// Columns and files of `data.type: table`.
struct TableConfig {
  std::string train, dev, test;        ///< file of each split under data.root, .csv or .jsonl; test may be empty
  std::string id_column = "id";        ///< unique per sample
  std::string image_column = "image";  ///< path under data.root / image_root
  std::string text_column = "text";
  std::string image_root;  ///< folder under data.root that image paths start from; "" = data.root itself
  bool operator==(const TableConfig&) const = default;
};

struct DataConfig {
  DatasetType type = DatasetType::medpix;
  std::filesystem::path root;
  std::filesystem::path packed;          ///< packed shards to use instead of artifacts.root/pack/<key>; empty: by key
  std::int64_t batch_size = 16;          ///< global: samples per step over all ranks
  std::int64_t num_workers = 4;          ///< threads that pack, or prepare batches
  std::int64_t max_length = 256;         ///< tokens, both special ones included
  std::string task1_label, task2_label;  ///< display names; empty: the data set's own
  std::string type_column = "type", severity_column = "severity", description_column = "description",
              filepath_column = "file_path";  ///< wound
  TableConfig table;
  std::vector<TaskConfig> tasks;  ///< table: any number >= 1
  OnBadSample on_bad_sample = OnBadSample::error;
  OnBadRecord on_bad_record = OnBadRecord::error;  ///< stored records that fail their checksum
  std::int64_t samples_per_shard = 1024;
  bool verify_on_read = true;  ///< check every record's checksum when it is read
  bool operator==(const DataConfig&) const = default;
};

/// How raw text becomes words before WordPiece; what a tokenizer folder leaves open is decided here.
struct TokenizerConfig {
  std::string
      name;  ///< friendly name, Hugging Face id, folder or vocab.txt/tokenizer.json; empty: the text tower's own
  std::optional<bool> do_lower_case;           ///< unset: the folder's own setting, else true
  std::optional<bool> strip_accents;           ///< unset: the folder's own setting, else as do_lower_case
  std::optional<bool> tokenize_chinese_chars;  ///< unset: the folder's own setting, else true
  bool operator==(const TokenizerConfig&) const = default;
};

/// Sizes of a MobileViT tower (Mehta and Rastegari, 2021; transformers' MobileViTConfig).
struct MobileVitConfig {
  std::vector<std::int64_t> hidden_sizes{144, 192, 240};                       ///< of the three transformers
  std::vector<std::int64_t> neck_hidden_sizes{16, 32, 64, 96, 128, 160, 640};  ///< channels of stem, layers and end
  std::int64_t num_attention_heads = 4, patch_size = 2, conv_kernel_size = 3;
  std::int64_t output_stride = 32;  ///< 8 and 16 dilate instead of shrinking further
  double mlp_ratio = 2, expand_ratio = 4;
  std::string hidden_act = "silu";
  double layer_norm_eps = 1e-5;
  bool qkv_bias = true;
  double hidden_dropout = 0.1;  ///< in the transformers' layers
  bool operator==(const MobileVitConfig&) const = default;
};

/// Sizes of a MobileNetV2 tower (Sandler et al., 2018; transformers' MobileNetV2Config).
struct MobileNetV2Config {
  double depth_multiplier = 1, expand_ratio = 6;
  std::int64_t depth_divisible_by = 8, min_depth = 8;
  std::int64_t output_stride = 32;  ///< 8 and 16 dilate instead of shrinking further
  bool first_layer_is_expansion = true, finegrained_output = true;
  bool tf_padding = true;  ///< odd rows and columns of padding go to the bottom and right
  std::string hidden_act = "relu6";
  double batch_norm_eps = 0.001;
  bool operator==(const MobileNetV2Config&) const = default;
};

/// A vision tower: a name (friendly name, Hugging Face id or folder), or an inline size trained from scratch.
struct VisionConfig {
  std::string name;  ///< empty when the size is given inline
  VisionFamily family = VisionFamily::vit;
  std::int64_t hidden_size = 768, num_hidden_layers = 12, num_attention_heads = 12;
  std::int64_t intermediate_size = 0;  ///< 0: 4 * hidden_size
  std::int64_t image_size = 224, patch_size = 16;
  std::string hidden_act = "gelu";
  double layer_norm_eps = 1e-12;
  bool qkv_bias = true;
  double hidden_dropout = 0.0;  ///< after the embeddings and in every layer
  double initializer_range = 0.02;
  MobileVitConfig mobilevit;                       ///< family mobilevit: instead of the sizes above but image_size
  MobileNetV2Config mobilenet_v2;                  ///< family mobilenet_v2: likewise
  BatchNormMode batch_norm = BatchNormMode::sync;  ///< conv nets: statistics of the global batch, or those of the start
  bool inline_size() const { return name.empty(); }
  bool operator==(const VisionConfig&) const = default;
};

/// What MobileBERT (Sun et al., 2020; transformers' MobileBertConfig) has beside BERT's sizes.
struct MobileBertConfig {
  std::int64_t embedding_size = 128, intra_bottleneck_size = 128, num_feedforward_networks = 4;
  bool trigram_input = true, use_bottleneck = true, use_bottleneck_attention = false;
  bool key_query_shared_bottleneck = true;
  std::string normalization_type = "no_norm";  ///< or "layer_norm"
  bool operator==(const MobileBertConfig&) const = default;
};

struct TextConfig {
  std::string name;  ///< empty when the size is given inline
  TextFamily family = TextFamily::bert;
  std::int64_t vocab_size = 0;  ///< 0: the tokenizer's
  std::int64_t hidden_size = 768, num_hidden_layers = 12, num_attention_heads = 12;
  std::int64_t intermediate_size = 0;  ///< 0: 4 * hidden_size
  std::int64_t max_position_embeddings = 512, type_vocab_size = 2;
  std::int64_t pad_token_id = 0;  ///< its word embedding begins with zeros and is not trained
  std::string hidden_act = "gelu";
  double layer_norm_eps = 1e-12;
  double hidden_dropout = 0.1;  ///< after the embeddings and in every layer
  double initializer_range = 0.02;
  MobileBertConfig mobilebert;  ///< family mobilebert
  bool inline_size() const { return name.empty(); }
  bool operator==(const TextConfig&) const = default;
};

/// student.custom of the original system (student.arch: custom_tiny).
struct CustomStudentConfig {
  std::int64_t vision_d = 192, vision_depth = 4, vision_heads = 3, vision_mlp_ratio = 4;
  std::int64_t text_d = 128, text_depth = 4, text_heads = 4, text_mlp_ratio = 4;
  std::int64_t max_len = 256, fusion_dim = 256;
  double dropout = 0.1;
  bool operator==(const CustomStudentConfig&) const = default;
};

/// Teacher or student.
struct ModelConfig {
  VisionConfig vision;
  TextConfig text;
  TokenizerConfig tokenizer;
  std::int64_t fusion_layers = 1;  ///< default: teacher 2, student 1
  std::int64_t fusion_dim = 512, fusion_heads = 8;
  double dropout = 0.1;  ///< of fusion and heads; the backbones have their own (hidden_dropout)
  TextPooling text_pooling = TextPooling::cls;
  Modality modality = Modality::both;  ///< image, text: that tower alone, without fusion
  std::filesystem::path weights;       ///< initial weights of the whole model (.safetensors, .pth); empty: none
  std::vector<std::int64_t> seeds;     ///< teacher: one teacher for each; empty: one, of training.seed
  std::vector<std::string> runs;       ///< teacher: log folders of finished runs whose teachers are taken
  StudentArch arch = StudentArch::zoo;
  CustomStudentConfig custom;
  bool operator==(const ModelConfig&) const = default;
};

struct TrainingConfig {
  TrainingMode mode = TrainingMode::two_stage;
  std::int64_t teacher_epochs = 3, student_epochs = 5;
  double teacher_lr = 3e-4, student_lr = 3e-4;
  std::optional<double> alpha, beta, gamma, T;  ///< win over the loss preset's constants when set
  bool teacher_only = false;
  std::int64_t seed = 0;
  std::vector<std::int64_t> seeds;  ///< one whole job for each; empty: one, of `seed`
  Precision precision = Precision::fp32;
  Precision gradient_exchange = Precision::fp32;  ///< type in which gradients travel between ranks
  bool host_sharing = true;                       ///< ranks of one host train one model in shared memory
  double weight_decay = 0.01;                     ///< decoupled, on all parameters; 0 disables
  std::array<double, 2> betas{0.9, 0.999};
  double eps = 1e-8;
  double clip_norm = 0.0;  ///< global gradient norm; 0 disables
  Schedule schedule = Schedule::constant;
  double warmup_fraction = 0.0;         ///< of all steps of the stage, linear; 0 disables
  std::int64_t micro_batch_size = 0;    ///< samples per rank and backward pass; 0: the rank's whole share of the batch
  bool gradient_checkpointing = false;  ///< transformer layers are computed again in backward
  bool cuda_graphs = false;             ///< steps are recorded once and replayed on the GPU
  TeacherSelect teacher_select = TeacherSelect::last;
  TeacherOutputsFrom teacher = TeacherOutputsFrom::cached;
  std::int64_t keep_checkpoints = 2;  ///< most recent checkpoints kept
  double checkpoint_minutes = 10;     ///< between checkpoints within an epoch; 0: only at the end of each
  std::int64_t max_bad_steps = 10;    ///< steps of a stage that may be skipped as not finite, or as spikes
  double spike_factor = 0;            ///< skip steps whose loss exceeds that multiple of its running mean; 0 disables
  bool operator==(const TrainingConfig&) const = default;
};

struct FusionConfig {
  FusionType type = FusionType::simple;
  std::int64_t hidden_mult = 2;
  std::optional<double> dropout;    ///< unset: the model's dropout
  double p_img = 0.3, p_txt = 0.3;  ///< modality_dropout: chance that a modality is dropped for a sample
  double temperature = 1.0;         ///< Gumbel-softmax of routed fusions
  Routing routing = Routing::straight_through;
  bool operator==(const FusionConfig&) const = default;
};

/// One weighted term of a loss. Constants that the term does not have keep their defaults.
struct LossTerm {
  LossTermType type = LossTermType::ce;
  double weight = 1;
  double T = 1;                ///< kl, dkd, dist: temperature of the soft targets
  double tau = 0.1;            ///< crd: temperature of the contrast
  double alpha = 1, beta = 1;  ///< dkd: weights of target and non-target part; dist: beta inter-class
  double gamma = 1;            ///< dist: intra-class
  MmdBandwidth bandwidth = MmdBandwidth::median;  ///< mmd
  bool operator==(const LossTerm&) const = default;
};
/// A term of that type with the constants of its paper, weight 1.
LossTerm default_term(LossTermType type);
/// Compares samples with one another, so that it needs the whole batch at once.
bool is_relational(LossTermType type);

struct LossConfig {
  LossType type = LossType::vanilla;
  std::vector<LossTerm> terms;                          ///< instead of a type; empty: the type's
  std::optional<std::int64_t> fusion_dim;               ///< must equal student.fusion_dim when given
  std::optional<double> alpha, beta, gamma, T, tau;     ///< unset: the preset's
  double ce_weight = 1.0;                               ///< crd, rkd, mmd
  ProjectionMode projection = ProjectionMode::trained;  ///< of the teacher's features to the student's width
  MmdBandwidth mmd_bandwidth = MmdBandwidth::median;
  bool operator==(const LossConfig&) const = default;
};

/// Random views of the training pictures, the same for teacher and student. A view is a pure function of (seed, sample,
/// view number); epoch e sees view e mod views.
struct AugmentConfig {
  std::int64_t views = 0;                     ///< different views of each picture; 0: pictures are taken as they are
  double min_scale = 1, max_ratio = 4.0 / 3;  ///< random_resized_crop: smallest share of the area (1: no crop), sides
  double horizontal_flip = 0;                 ///< probability
  double brightness = 0, contrast = 0, saturation = 0;  ///< color_jitter: factors in [1 - x, 1 + x]
  bool operator==(const AugmentConfig&) const = default;
};

struct CacheConfig {
  CacheFeatures features = CacheFeatures::fp32;
  bool operator==(const CacheConfig&) const = default;
};

struct LoggingConfig {
  std::filesystem::path log_dir = "logs/run";
  bool operator==(const LoggingConfig&) const = default;
};

struct EvaluationConfig {
  bool save_teacher_metrics = true;
  bool mcnemar = false, mcnemar_exact = false, mcnemar_cc = false;
  bool robustness = false;       ///< test once more with noise, missing and mismatched modalities
  bool latency = true;           ///< time single samples through the trained models
  std::int64_t batch_size = 64;  ///< samples per forward over all ranks
  bool operator==(const EvaluationConfig&) const = default;
};

/// When the ranks give one another up.
struct WatchdogConfig {
  double dead_after = 60;       ///< seconds without a sign of life from a rank
  double stalled_after = 1800;  ///< seconds in which nothing happens on a rank that waits for no other; 0: for ever
  bool operator==(const WatchdogConfig&) const = default;
};

struct PathsConfig {
  std::filesystem::path root;  ///< empty: artifacts.root: `artifacts` beside log_dir's parent; weights.root: none
  bool operator==(const PathsConfig&) const = default;
};

struct Config {
  DataConfig data;
  ModelConfig teacher = [] {
    ModelConfig model;
    model.fusion_layers = 2;
    return model;
  }();
  ModelConfig student;
  TrainingConfig training;
  FusionConfig fusion;
  LossConfig loss;
  AugmentConfig augment;
  CacheConfig cache;
  LoggingConfig logging;
  EvaluationConfig evaluation;
  WatchdogConfig watchdog;
  PathsConfig artifacts;
  PathsConfig weights;
  Device device = Device::automatic;
  std::filesystem::path source;  ///< the file this came from; not a key
  bool operator==(const Config&) const = default;
};

/// The terms of the student's loss: loss.terms, else those of loss.type with the constants of training.*, then loss.*,
/// then its preset. Terms of weight 0 are left out, but for ce.
std::vector<LossTerm> resolved_loss(const Config& config);

/// Does the student's loss compare with a teacher?
bool distils(const Config& config);

/// No teacher takes part: a loss of ce alone with teacher_epochs 0, no teacher.weights and no teacher.runs.
bool without_teacher(const Config& config);

/// The towers of student.arch custom_tiny.
VisionConfig custom_vision(const CustomStudentConfig& custom);
TextConfig custom_text(const CustomStudentConfig& custom);

/// Lower case, runs of anything but letters and digits become one `_`: "Body Location" -> "body_location".
std::string slug(const std::string& label);

/// The tasks in their order, with display labels and columns resolved for the data set's type.
std::vector<TaskConfig> resolved_tasks(const DataConfig& data);

/// artifacts.root, or its default: `artifacts` beside the folder that holds log_dir (logs/run1 -> artifacts; a log_dir
/// in the working folder -> artifacts in it).
std::filesystem::path artifacts_root(const Config& config);

}  // namespace mmkd
