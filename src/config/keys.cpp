#include "keys.h"

#include <utility>

#include "enum_names.h"
#include "mmkd/base/error.h"

namespace mmkd::config_detail {
namespace {

// Counts and widths end here, so that products of two of them fit into 64 bits.
constexpr double kMaxCount = 2147483647;

Range count_from(double min) { return {.min = min, .max = kMaxCount}; }
Range at_least(double min) { return {.min = min}; }
Range above(double min) { return {.min = min, .min_open = true}; }
Range fraction() { return {.min = 0, .max = 1}; }
Range below_one() { return {.min = 0, .max = 1, .max_open = true}; }

template <class Enum>
EnumTarget enum_target(Enum& member) {
  return {EnumNames<Enum>::names, [&member] { return static_cast<std::size_t>(member); },
          [&member](std::size_t i) { member = static_cast<Enum>(i); }};
}

/// Adds the keys of one section.
class Section {
 public:
  Section(std::vector<Key>& keys, std::string path) : keys_(keys), path_(std::move(path)) {}

  template <class T>
  Key& add(const char* name, T& member, const char* meaning, Range range = {}) {
    Key key;
    key.path = child_path(path_, name);
    if constexpr (std::is_enum_v<T>)
      key.target = enum_target(member);
    else
      key.target = &member;
    key.meaning = meaning;
    key.range = range;
    return keys_.emplace_back(std::move(key));
  }
  /// A key that may be without a value; `unset` says what holds then.
  template <class T>
  Key& optional(const char* name, T& member, const char* unset, const char* meaning, Range range = {}) {
    Key& key = add(name, member, meaning, range);
    key.unset = unset;
    return key;
  }
  void ignore(const char* name, const char* meaning) {
    bool nothing{};
    add(name, nothing, meaning).target = IgnoredTarget{};
  }
  Section in(const char* name) const { return {keys_, child_path(path_, name)}; }
  std::vector<Key>& keys() const { return keys_; }

 private:
  std::vector<Key>& keys_;
  std::string path_;
};

void data_keys(Section s, DataConfig& c) {
  s.add(
      "type", c.type,
      "`medpix`: JSON lines, tasks modality and location; `wound`: CSV, tasks type and severity; `table`: CSV or JSON "
      "lines with the columns of `data.table` and any tasks");
  s.optional("root", c.root, "must be given, unless `data.packed` is", "folder of the data set");
  s.optional("packed", c.packed, "the shards of these settings under `artifacts.root`",
             "folder of packed shards to use, whatever settings they were packed with");
  s.add("batch_size", c.batch_size, "samples per optimizer step, over all ranks and micro-batches", count_from(1));
  s.add("num_workers", c.num_workers, "threads per rank that pack, or prepare batches; 0: none beside the main one",
        {.min = 0, .max = 1024});
  s.add("max_length", c.max_length, "tokens of a text, [CLS] and [SEP] included; longer texts are cut", count_from(3));
  s.optional("task1_label", c.task1_label, "modality (medpix), type (wound)", "display name of the first task");
  s.optional("task2_label", c.task2_label, "location (medpix), severity (wound)", "display name of the second task");
  s.add("type_column", c.type_column, "wound: column of the first task's class");
  s.add("severity_column", c.severity_column, "wound: column of the second task's class");
  s.add("description_column", c.description_column, "wound: column of the text");
  s.add("filepath_column", c.filepath_column, "wound: column of the image's path");
  s.optional("tasks", c.tasks, "must be given for `type: table`",
             "table: list of `{label: display name, column: where the class name stands}`; a plain name is both. "
             "`a.b` descends into JSON objects");
  s.add("on_bad_sample", c.on_bad_sample,
        "`error`: a sample that cannot be used ends packing, all of them named; `quarantine`: they are left out and "
        "reported");
  s.add("on_bad_record", c.on_bad_record,
        "`error`: a packed record that fails its checksum ends the run when it is read; `quarantine`: every record is "
        "read before the run starts, damaged ones are left out and reported");
  s.add("samples_per_shard", c.samples_per_shard, "samples in each shard file but the last", count_from(1));
  s.add("verify_on_read", c.verify_on_read, "check the checksum of every record that is read");

  Section t = s.in("table");
  t.optional("train", c.table.train, "must be given for `type: table`",
             "file of the training split under `data.root`, `.csv` or `.jsonl`");
  t.optional("dev", c.table.dev, "must be given for `type: table`", "file of the development split");
  t.optional("test", c.table.test, "no test split", "file of the test split");
  t.add("id_column", c.table.id_column, "column of the sample's unique id");
  t.add("image_column", c.table.image_column, "column of the image's path");
  t.add("text_column", c.table.text_column, "column of the text");
  t.optional("image_root", c.table.image_root, "`data.root`", "folder under `data.root` that image paths start from");
}

template <class Tower>
void tower_size_keys(Section s, Tower& c) {
  s.add("hidden_size", c.hidden_size, "width of the tower", count_from(1));
  s.add("num_hidden_layers", c.num_hidden_layers, "layers", count_from(1));
  s.add("num_attention_heads", c.num_attention_heads, "heads; they divide `hidden_size`", count_from(1));
  s.add("intermediate_size", c.intermediate_size, "width of the feed-forward part; 0: 4 × `hidden_size`",
        count_from(0));
  s.add("hidden_act", c.hidden_act, "activation").choices = {"gelu", "gelu_new", "gelu_pytorch_tanh", "relu"};
  s.add("layer_norm_eps", c.layer_norm_eps, "epsilon of the layer norms", above(0));
  s.add("hidden_dropout", c.hidden_dropout, "dropout after the embeddings and in every layer", below_one());
}

void mobilevit_keys(Section s, MobileVitConfig& c) {
  s.add("hidden_sizes", c.hidden_sizes, "widths of the three transformers", count_from(1));
  s.add("neck_hidden_sizes", c.neck_hidden_sizes, "channels of the stem, the five layers and the end", count_from(1));
  s.add("num_attention_heads", c.num_attention_heads, "heads; they divide each of `hidden_sizes`", count_from(1));
  s.add("patch_size", c.patch_size, "height and width of a patch of the map", count_from(1));
  s.add("conv_kernel_size", c.conv_kernel_size, "size of the blocks' convolutions, odd", count_from(1));
  s.add("output_stride", c.output_stride, "picture size ÷ map size: 32, or 16 or 8 by dilation", count_from(1));
  s.add("mlp_ratio", c.mlp_ratio, "width of the feed-forward part ÷ width", above(0));
  s.add("expand_ratio", c.expand_ratio, "expansion of the inverted residuals", above(0));
  s.add("hidden_act", c.hidden_act, "activation").choices = {"silu", "gelu", "relu", "relu6"};
  s.add("layer_norm_eps", c.layer_norm_eps, "epsilon of the layer norms", above(0));
  s.add("qkv_bias", c.qkv_bias, "query, key and value projections have a bias");
  s.add("hidden_dropout", c.hidden_dropout, "dropout in the transformers' layers", below_one());
}

void mobilenet_v2_keys(Section s, MobileNetV2Config& c) {
  s.add("depth_multiplier", c.depth_multiplier, "factor of all channel counts", above(0));
  s.add("depth_divisible_by", c.depth_divisible_by, "channel counts are multiples of it", count_from(1));
  s.add("min_depth", c.min_depth, "fewest channels of a layer", count_from(1));
  s.add("expand_ratio", c.expand_ratio, "expansion of the inverted residuals", above(0));
  s.add("output_stride", c.output_stride, "picture size ÷ map size: 32, or 16 or 8 by dilation", count_from(1));
  s.add("first_layer_is_expansion", c.first_layer_is_expansion, "the stem's first convolution is the expansion");
  s.add("finegrained_output", c.finegrained_output, "1280 output channels also with `depth_multiplier` below 1");
  s.add("tf_padding", c.tf_padding, "TensorFlow's padding, as in the published checkpoints");
  s.add("hidden_act", c.hidden_act, "activation").choices = {"relu6", "relu", "silu"};
  s.add("batch_norm_eps", c.batch_norm_eps, "epsilon of the batch norms", above(0));
}

void mobilebert_keys(Section s, MobileBertConfig& c) {
  s.add("embedding_size", c.embedding_size, "width of the word embeddings", count_from(1));
  s.add("intra_bottleneck_size", c.intra_bottleneck_size, "width inside the layers", count_from(1));
  s.add("num_feedforward_networks", c.num_feedforward_networks, "feed-forward networks of a layer", count_from(1));
  s.add("trigram_input", c.trigram_input, "a word is seen with its neighbours");
  s.add("use_bottleneck", c.use_bottleneck, "layers work at `intra_bottleneck_size`");
  s.add("use_bottleneck_attention", c.use_bottleneck_attention, "values come from the bottleneck too");
  s.add("key_query_shared_bottleneck", c.key_query_shared_bottleneck,
        "keys and queries have a bottleneck of their own");
  s.add("normalization_type", c.normalization_type, "norm of the layers").choices = {"no_norm", "layer_norm"};
}

/// The keys added to `s` by `add` mean something only while `applies`.
template <class Add>
void add_where(std::vector<Key>& keys, const std::function<bool()>& applies, const Add& add) {
  const auto first = keys.size();
  add();
  for (auto i = first; i < keys.size(); ++i) keys[i].applies = applies;
}

void vision_keys(Section s, VisionConfig& c) {
  Key& name =
      s.optional("name", c.name, "the size given here",
                 "friendly name, Hugging Face id or folder; `vision: NAME` says the same. `custom`: the tower of "
                 "`student.custom`");
  name.shorthand = Shorthand::alone;
  s.add("family", c.family,
        "architecture of an inline size. `mobilevit` and `mobilenet_v2` have their sizes in sections of that name; of "
        "the "
        "keys here they take `image_size` and `initializer_range`");
  add_where(
      s.keys(), [&c] { return c.family == VisionFamily::vit || c.family == VisionFamily::deit; },
      [&] {
        tower_size_keys(s, c);
        s.add("patch_size", c.patch_size, "height and width of a patch; it divides `image_size`", count_from(1));
        s.add("qkv_bias", c.qkv_bias, "query, key and value projections have a bias");
      });
  s.add("image_size", c.image_size, "height and width in pixels", count_from(1));
  s.add("initializer_range", c.initializer_range, "standard deviation of the initial weights", above(0));
  add_where(
      s.keys(), [&c] { return c.inline_size() && c.family == VisionFamily::mobilevit; },
      [&] { mobilevit_keys(s.in("mobilevit"), c.mobilevit); });
  add_where(
      s.keys(), [&c] { return c.inline_size() && c.family == VisionFamily::mobilenet_v2; },
      [&] { mobilenet_v2_keys(s.in("mobilenet_v2"), c.mobilenet_v2); });
}

void text_keys(Section s, TextConfig& c) {
  Key& name = s.optional("name", c.name, "the size given here",
                         "friendly name, Hugging Face id or folder; `text: NAME` says the same. `custom`: the tower of "
                         "`student.custom`");
  name.shorthand = Shorthand::alone;
  s.add("family", c.family,
        "architecture of an inline size. `custom_text` is a pre-norm transformer, the tower of `student.custom`");
  tower_size_keys(s, c);
  s.add("initializer_range", c.initializer_range, "standard deviation of the initial weights", above(0));
  s.add("vocab_size", c.vocab_size, "rows of the word embedding; 0: as many as the tokenizer has", count_from(0));
  s.add("max_position_embeddings", c.max_position_embeddings, "longest text in tokens", count_from(1));
  s.add("type_vocab_size", c.type_vocab_size, "token types (not `distilbert`, `custom_text`)", count_from(1));
  add_where(
      s.keys(), [&c] { return c.inline_size() && c.family == TextFamily::mobilebert; },
      [&] { mobilebert_keys(s.in("mobilebert"), c.mobilebert); });
}

void tokenizer_keys(Section s, TokenizerConfig& c) {
  Key& name =
      s.optional("name", c.name, "the one of the text tower",
                 "friendly name, Hugging Face id, folder, `vocab.txt` or `tokenizer.json`; `tokenizer: NAME` says "
                 "the same");
  name.shorthand = Shorthand::shared;
  s.optional("do_lower_case", c.do_lower_case, "what the tokenizer's folder says, else true", "lower-case the text");
  s.optional("strip_accents", c.strip_accents, "what the tokenizer's folder says, else as `do_lower_case`",
             "remove accents");
  s.optional("tokenize_chinese_chars", c.tokenize_chinese_chars, "what the tokenizer's folder says, else true",
             "make every Chinese character a word");
}

void custom_student_keys(Section s, CustomStudentConfig& c) {
  s.add("vision_d", c.vision_d, "width of the vision tower", count_from(1));
  s.add("vision_depth", c.vision_depth, "layers of the vision tower", count_from(1));
  s.add("vision_heads", c.vision_heads, "heads of the vision tower; they divide `vision_d`", count_from(1));
  s.add("vision_mlp_ratio", c.vision_mlp_ratio, "width of its feed-forward part ÷ `vision_d`", count_from(1));
  s.add("text_d", c.text_d, "width of the text tower", count_from(1));
  s.add("text_depth", c.text_depth, "layers of the text tower", count_from(1));
  s.add("text_heads", c.text_heads, "heads of the text tower; they divide `text_d`", count_from(1));
  s.add("text_mlp_ratio", c.text_mlp_ratio, "width of its feed-forward part ÷ `text_d`", count_from(1));
  s.add("max_len", c.max_len, "longest text in tokens", count_from(3));
  s.add("fusion_dim", c.fusion_dim,
        "width of projections and fusion; the same as `student.fusion_dim` if both are given", count_from(1));
  s.add("dropout", c.dropout, "dropout of towers, fusion and heads", below_one());
}

void model_keys(Section s, ModelConfig& c, bool student) {
  vision_keys(s.in("vision"), c.vision);
  text_keys(s.in("text"), c.text);
  tokenizer_keys(s.in("tokenizer"), c.tokenizer);
  s.add("fusion_layers", c.fusion_layers, "layers of the fusion, where its type has layers", count_from(1));
  s.add("fusion_dim", c.fusion_dim, "width of projections and fusion", count_from(1));
  s.add("fusion_heads", c.fusion_heads, "heads of the fusion, where its type has attention; they divide `fusion_dim`",
        count_from(1));
  s.add("dropout", c.dropout, "dropout of fusion and heads", below_one());
  s.add("text_pooling", c.text_pooling, "feature of a text: of the `cls` token, or the `mean` over its tokens");
  s.add(
      "batch_norm", c.vision.batch_norm,
      "batch norms of conv nets in training: `sync` takes the statistics of the global batch over all ranks, `frozen` "
      "those of the start");
  s.add("modality", c.modality,
        "`image`, `text`: that tower and the heads alone, without fusion; a teacher only with `training.teacher_only`");
  s.optional("weights", c.weights, "none", "initial weights of the whole model, a `.safetensors` or `.pth` file");
  if (!student) {
    s.optional("seeds", c.seeds, "`training.seed`",
               "several teachers, one for each seed: the student learns from the mean of their logits and from the "
               "features of the first",
               at_least(0));
    s.optional("runs", c.runs, "none",
               "log folders of finished runs whose teachers are taken as they are, one or several (as with `seeds`); "
               "they bring their towers along, so none are given here");
    return;
  }
  s.add("arch", c.arch, "`zoo`: the towers named above; `custom_tiny`: those of `student.custom`");
  custom_student_keys(s.in("custom"), c.custom);
  s.ignore("recommended", "a note to people: any content, ignored");
}

void training_keys(Section s, TrainingConfig& c) {
  s.add("mode", c.mode,
        "`two_stage`: a teacher, then a student; `joint`: both in one loop, the student learning from the teacher of "
        "that "
        "moment (for `student_epochs`)");
  s.add("teacher_epochs", c.teacher_epochs,
        "passes over the training split for the teacher; 0 needs `teacher.weights`, or `loss.type: ce_only` (no "
        "distillation)",
        count_from(0));
  s.add("student_epochs", c.student_epochs, "passes over the training split for the student", count_from(0));
  s.add("teacher_lr", c.teacher_lr, "peak learning rate of the teacher", above(0));
  s.add("student_lr", c.student_lr, "peak learning rate of the student", above(0));
  const char* preset = "`loss.*`, else the preset of `loss.type`";
  s.optional("alpha", c.alpha, preset, "weight of the soft-target (KL) term", at_least(0));
  s.optional("beta", c.beta, preset, "weight of the feature (MSE) term", at_least(0));
  s.optional("gamma", c.gamma, preset, "weight of the contrastive (CRD) term of `combined`", at_least(0));
  s.optional("T", c.T, preset, "temperature of the soft targets", above(0));
  s.add("teacher_only", c.teacher_only, "train and evaluate the teacher, no student");
  s.add("seed", c.seed, "everything random is a function of it", at_least(0));
  s.optional("seeds", c.seeds, "`seed` alone",
             "several whole jobs, one for each seed, in `log_dir/seed-<seed>`; mean and standard deviation in "
             "`log_dir/seeds.json`",
             at_least(0));
  s.add("precision", c.precision, "`bf16`: forward and backward in autocast; weights, losses and metrics stay fp32");
  s.add(
      "gradient_exchange", c.gradient_exchange,
      "type in which gradients travel between ranks. `bf16`: half the bytes, for slow networks between nodes; results "
      "then depend on the number of ranks");
  s.add(
      "host_sharing", c.host_sharing,
      "on CPUs, ranks that all run on one host keep one model in memory that they share, and each updates its part of "
      "it; `false`: each has its own. The result is the same");
  s.add("weight_decay", c.weight_decay, "of AdamW, decoupled, on all parameters; 0 disables", at_least(0));
  s.add("betas", c.betas, "decay rates of AdamW's two averages", below_one());
  s.add("eps", c.eps, "epsilon of AdamW", above(0));
  s.add("clip_norm", c.clip_norm, "bound of the global gradient norm; 0 disables", at_least(0));
  s.add("schedule", c.schedule, "course of the learning rate after the warm-up, down to 0 unless `constant`");
  s.add("warmup_fraction", c.warmup_fraction, "share of a stage's steps with a linear warm-up; 0 disables", fraction());
  s.add("micro_batch_size", c.micro_batch_size,
        "samples per rank and backward pass; 0: the rank's whole share of the batch. With a loss that compares samples "
        "the forward passes run twice, and the result is the same",
        count_from(0));
  s.add(
      "gradient_checkpointing", c.gradient_checkpointing,
      "`true`: transformer layers keep their inputs alone and are computed again in the backward pass: less memory, a "
      "fourth to a third more time, and the same result");
  s.add(
      "cuda_graphs", c.cuda_graphs,
      "`true`, on a GPU with one rank: steps are recorded once for each size of batch and then replayed, which spares "
      "small models the time that the host takes to start a thousand kernels; texts are padded to multiples of 32");
  s.add("teacher_select", c.teacher_select, "epoch whose teacher is handed on: the `last`, or the `best` on dev");
  s.add("teacher", c.teacher, "teacher outputs: computed once and `cached`, or `live` in every step");
  s.add("keep_checkpoints", c.keep_checkpoints, "most recent checkpoints kept; each holds the best epoch too",
        count_from(1));
  s.add("checkpoint_minutes", c.checkpoint_minutes,
        "time between checkpoints within an epoch, besides that at the end of each; 0: none within an epoch",
        at_least(0));
  s.add("max_bad_steps", c.max_bad_steps,
        "steps of a stage that may be skipped because loss or gradients are not finite; one more ends the run",
        count_from(0));
  s.add("spike_factor", c.spike_factor,
        "skip steps whose loss exceeds that multiple of the running mean of the steps before; 0: never", at_least(0));
}

void fusion_keys(Section s, FusionConfig& c) {
  s.add("type", c.type, "how the two projected features become one");
  s.add("hidden_mult", c.hidden_mult, "`concat_mlp`: width of the hidden layers ÷ `fusion_dim`", count_from(1));
  s.optional("dropout", c.dropout, "the model's `dropout`", "dropout inside the fusion", below_one());
  s.add("p_img", c.p_img, "`modality_dropout`: chance that a sample loses its image", fraction());
  s.add("p_txt", c.p_txt, "`modality_dropout`: chance that a sample loses its text", fraction());
  s.add("temperature", c.temperature, "of the Gumbel-softmax of routed fusions", above(0));
  s.add(
      "routing", c.routing,
      "`energy_aware_adaptive`, `shomr` in training: `straight_through` lets the router learn from the task, `sampled` "
      "does not. Evaluation takes the most likely route");
}

void loss_keys(Section s, LossConfig& c) {
  const auto preset_in_use = [&c] { return c.terms.empty(); };
  add_where(s.keys(), preset_in_use, [&] { s.add("type", c.type, "loss of the student: a preset of terms"); });
  s.optional("terms", c.terms, "those of `type`",
             "list of terms instead of a type: `[{ce: 1}, {kl: {weight: 1, T: 4}}, {dkd: {weight: 1, T: 4, alpha: 1, "
             "beta: 8}}]`. Terms: `ce`, `kl` (T), `mse`, `crd` (tau), `rkd_distance`, `rkd_angle`, `mmd` (bandwidth), "
             "`dkd` (T, alpha, beta), `dist` (T, beta, gamma); each has a `weight`, which may be given alone");
  s.optional("fusion_dim", c.fusion_dim, "`student.fusion_dim`", "must be the same as `student.fusion_dim`",
             count_from(1));
  const char* preset = "the preset of `loss.type`";
  add_where(s.keys(), preset_in_use, [&] {
    s.optional("alpha", c.alpha, preset, "as `training.alpha`, which wins", at_least(0));
    s.optional("beta", c.beta, preset, "as `training.beta`, which wins", at_least(0));
    s.optional("gamma", c.gamma, preset, "as `training.gamma`, which wins", at_least(0));
    s.optional("T", c.T, preset, "as `training.T`, which wins", above(0));
    s.optional("tau", c.tau, preset, "temperature of the contrastive (CRD) term", above(0));
    s.add("ce_weight", c.ce_weight, "`crd`, `rkd`, `mmd`: weight of the task loss; with 0 the heads are not trained",
          at_least(0));
  });
  s.add(
      "projection", c.projection,
      "linear projections of the teacher's features to the student's width: `trained` with the student, or `frozen` at "
      "their random start");
  add_where(s.keys(), preset_in_use, [&] {
    s.add(
        "mmd_bandwidth", c.mmd_bandwidth,
        "kernel widths of `mmd`: `fixed` 0.2, 0.5, 1, 2, 5, or `median`: the mean distance of the batch × 1/4, 1/2, 1, "
        "2, 4");
  });
}

void augment_keys(Section s, AugmentConfig& c) {
  s.add("views", c.views,
        "different random views of each training picture, which teacher and student see in turn (epoch number modulo "
        "views); the teacher cache holds the outputs for all. 0: pictures as they are",
        count_from(0));
  s.add("horizontal_flip", c.horizontal_flip,
        "probability that a view is mirrored. Off by default: left and right mean something in medical pictures",
        fraction());
  Section crop = s.in("random_resized_crop");
  crop.add("min_scale", c.min_scale, "smallest share of the area that a view shows; 1: all of it",
           {.min = 0.01, .max = 1});
  crop.add("max_ratio", c.max_ratio, "largest distortion of the sides", at_least(1));
  Section jitter = s.in("color_jitter");
  jitter.add("brightness", c.brightness, "factor in [1 - x, 1 + x]", fraction());
  jitter.add("contrast", c.contrast, "factor in [1 - x, 1 + x] of the distance from the mean grey", fraction());
  jitter.add("saturation", c.saturation, "factor in [1 - x, 1 + x] of the distance from the pixel's grey", fraction());
}

void evaluation_keys(Section s, EvaluationConfig& c) {
  s.add("save_teacher_metrics", c.save_teacher_metrics, "evaluate the teacher on dev and test too");
  s.add("mcnemar", c.mcnemar,
        "accepted; results.json always has McNemar's test of teacher against best student on test, per task");
  s.add("mcnemar_exact", c.mcnemar_exact, "accepted; the exact binomial p-value is always there");
  s.add("mcnemar_cc", c.mcnemar_cc, "accepted; the chi-square statistic, continuity corrected, is always there");
  s.add("robustness", c.robustness,
        "test once more with noise on the pictures, 30 % of modalities missing, no picture, no text, mismatched texts");
  s.add("latency", c.latency, "time single samples through the trained models on this machine");
  s.add("batch_size", c.batch_size, "samples per forward, over all ranks", count_from(1));
}

void watchdog_keys(Section s, WatchdogConfig& c) {
  s.add("dead_after", c.dead_after, "seconds without a sign of life after which a rank is given up", at_least(0.1));
  s.add("stalled_after", c.stalled_after,
        "seconds in which nothing happens on a rank that waits for no other; 0: it is waited for without end",
        at_least(0));
}

}  // namespace

std::string child_path(std::string_view section, std::string_view name) {
  return fmt::format("{}{}{}", section, section.empty() ? "" : ".", name);
}

std::string parent_path(const std::string& path) {
  const auto dot = path.rfind('.');
  return dot == std::string::npos ? "" : path.substr(0, dot);
}

std::string Key::section() const { return parent_path(path); }

std::string Key::name() const {
  const auto dot = path.rfind('.');
  return dot == std::string::npos ? path : path.substr(dot + 1);
}

std::vector<Key> bind_keys(Config& config) {
  std::vector<Key> keys;
  const Section top(keys, "");
  data_keys(top.in("data"), config.data);
  model_keys(top.in("teacher"), config.teacher, false);
  model_keys(top.in("student"), config.student, true);
  training_keys(top.in("training"), config.training);
  fusion_keys(top.in("fusion"), config.fusion);
  loss_keys(top.in("loss"), config.loss);
  augment_keys(top.in("augment"), config.augment);
  top.in("cache").add("features", config.cache.features, "type of the cached teacher features; logits stay fp32");
  top.in("logging").add("log_dir", config.logging.log_dir, "folder that receives weights, metrics and logs of the run");
  evaluation_keys(top.in("evaluation"), config.evaluation);
  watchdog_keys(top.in("watchdog"), config.watchdog);
  top.in("artifacts")
      .optional("root", config.artifacts.root, "`artifacts` beside the folder that holds `log_dir`",
                "folder of the finished stages, which runs share");
  top.in("weights").optional("root", config.weights.root, "the Hugging Face cache only",
                             "folder in which towers and tokenizers are looked for by name");
  Section(keys, "").add(
      "device", config.device,
      "`cuda`: one GPU per rank, by local rank; `auto`: `cuda` where there is one. An index (`cuda:4`) "
      "is accepted and ignored");
  return keys;
}

std::string_view section_meaning(std::string_view section) {
  static constexpr std::pair<std::string_view, std::string_view> kMeanings[] = {
      {"data", "What is trained on, and how it is packed."},
      {"data.table", "Files and columns of `data.type: table`."},
      {"teacher",
       "The two models. They have the same keys but for `seeds` and `runs` (teacher), `arch`, `custom` and "
       "`recommended` "
       "(student)."},
      {"teacher.vision",
       "The image tower: a name (`vision: vit-base`), or a map with an inline size, trained from scratch. Not both."},
      {"teacher.text",
       "The text tower: a name (`text: distilbert`), or a map with an inline size, trained from scratch. Not both. An "
       "inline size needs a tokenizer."},
      {"teacher.tokenizer",
       "A name, or a map. A tower that is named brings its tokenizer; keys given here win over its settings."},
      {"student.custom", "The small student of `student.arch: custom_tiny` (or `vision: custom`, `text: custom`)."},
      {"fusion", "The same type for teacher and student."},
      {"loss",
       "Presets: `vanilla` alpha 1, beta 100, T 2; `combined` alpha 1, beta 100, gamma 10, T 4, tau 0.1; `crd` tau "
       "0.1; `rkd` distance 25, angle 50; `mmd`; `ce_only` trains without distillation. `crd`, `rkd` and `mmd` have "
       "the "
       "task loss beside them (`ce_weight`)."},
      {"augment", "Random views of the training pictures; a function of seed, sample and view alone."},
      {"teacher.vision.mobilevit", "Sizes of an inline `family: mobilevit`."},
      {"teacher.vision.mobilenet_v2", "Sizes of an inline `family: mobilenet_v2`."},
      {"teacher.text.mobilebert", "Beside the sizes above, of an inline `family: mobilebert`."},
      {"cache", "The teacher's outputs for every training sample, computed once."},
      {"watchdog",
       "When ranks that died, were stopped or hang are given up: the job ends and names them, and the same command "
       "goes "
       "on from the last checkpoint."},
      {"artifacts", "Where finished stages (shards, teachers, caches, students) lie, to be found by later runs."},
      {"weights", "Where pretrained towers lie. Nothing is downloaded."},
  };
  for (const auto& [name, meaning] : kMeanings)
    if (name == section) return meaning;
  return "";
}

}  // namespace mmkd::config_detail
