#include "mmkd/pipeline/predict_rows.h"

#include <ATen/Parallel.h>

#include <chrono>
#include <nlohmann/json.hpp>

#include "mmkd/base/error.h"
#include "mmkd/base/files.h"
#include "mmkd/base/hash.h"
#include "mmkd/base/signals.h"
#include "mmkd/nn/linear.h"
#include "mmkd/pipeline/trained_file.h"
#include "mmkd/report/progress.h"
#include "mmkd/train/precision.h"

namespace mmkd {
namespace {

using Json = nlohmann::ordered_json;

/// A row as the model reads it.
struct Prepared {
  PredictionRow row;
  std::vector<std::uint8_t> pixels;
  std::vector<std::int32_t> tokens;
  std::string problem;  // not empty: it cannot be used
};

class PreparedSource final : public SampleSource {
 public:
  explicit PreparedSource(const std::vector<const Prepared*>& rows) : rows_(rows) {}
  std::int64_t size() const override { return std::ssize(rows_); }
  Record get(std::int64_t i) const override {
    const auto& row = *rows_.at(static_cast<std::size_t>(i));
    Record record;
    record.id = row.row.id;
    record.sample_key = checksum64(row.row.id);
    record.pixels[0] = row.pixels;
    record.tokens[0] = row.tokens;
    return record;
  }

 private:
  const std::vector<const Prepared*>& rows_;
};

class Predictor {
 public:
  Predictor(const OpenedModel& opened, at::Device device, const PredictOptions& options)
      : card_(opened.card), model_(*opened.model), device_(device), options_(options), input_(input_of(card_)) {
    opened.model->to(device);
    opened.model->eval();
    if (input_.modality != Modality::image)
      tokenizer_ = WordPieceTokenizer::from_text(card_.tokenizer, card_.tokenizer_settings);
  }

  /// A line for each row.
  std::vector<Json> run(std::vector<PredictionRow> rows) const {
    std::vector<Prepared> prepared(rows.size());
    at::parallel_for(0, std::ssize(rows), 1, [&](std::int64_t begin, std::int64_t end) {
      for (auto i = static_cast<std::size_t>(begin); i < static_cast<std::size_t>(end); ++i) {
        prepared[i].row = std::move(rows[i]);
        prepare(prepared[i]);
      }
    });
    std::vector<const Prepared*> usable;
    for (const auto& row : prepared) {
      if (row.problem.empty()) usable.push_back(&row);
    }
    const auto probabilities = usable.empty() ? std::vector<at::Tensor>() : forward(usable);
    std::vector<Json> lines;
    std::int64_t next = 0;
    for (const auto& row : prepared)
      lines.push_back(row.problem.empty() ? line(row.row, probabilities, next++) : problem_line(row));
    return lines;
  }

 private:
  void prepare(Prepared& prepared) const {
    const auto& row = prepared.row;
    try {
      if (input_.modality == Modality::image && row.image.empty())
        throw Error("there is no image, and this model reads nothing else");
      if (input_.modality == Modality::text && row.text.empty())
        throw Error("there is no text, and this model reads nothing else");
      if (input_.modality != Modality::text) {
        if (row.image.empty()) {
          prepared.pixels.resize(static_cast<std::size_t>(3 * input_.height * input_.width));
        } else {
          const auto encoded = read_file(row.image);
          prepared.pixels =
              apply_policy(decode_image(std::as_bytes(std::span(encoded)), row.image.string()), card_.policy).rgb;
        }
      }
      if (tokenizer_) prepared.tokens = tokenizer_->encode(row.text, card_.max_length);
    } catch (const Error& e) {
      prepared.problem = e.what();
    }
  }

  /// Of each task, [B, K] float64.
  std::vector<at::Tensor> forward(const std::vector<const Prepared*>& rows) const {
    const at::NoGradGuard no_grad;
    const PreparedSource source(rows);
    AssemblerOptions assembler;
    assembler.student = input_;
    BatchPlan plan = block_plans(source.size(), source.size(), 1, 0).front();
    Batch batch = BatchAssembler(source, assembler).assemble(plan);
    batch.student.has_image = present(rows, [](const PredictionRow& row) { return !row.image.empty(); });
    batch.student.has_text = present(rows, [](const PredictionRow& row) { return !row.text.empty(); });
    batch = to_device(std::move(batch), device_);
    const AutocastGuard autocast(device_.type(), options_.precision);
    std::vector<at::Tensor> probabilities;
    for (const auto& logits : model_.forward(batch.student, {}).logits)
      probabilities.push_back(at::softmax(logits.to(at::kCPU, at::kDouble), 1).contiguous());
    return probabilities;
  }

  /// Undefined if it is there in every row.
  template <class IsPresent>
  static at::Tensor present(const std::vector<const Prepared*>& rows, const IsPresent& is_present) {
    at::Tensor mask = at::empty({std::ssize(rows)}, at::kBool);
    auto* out = mask.mutable_data_ptr<bool>();
    for (const auto* row : rows) *out++ = is_present(row->row);
    return mask.all().item<bool>() ? at::Tensor() : mask;
  }

  Json line(const PredictionRow& row, const std::vector<at::Tensor>& probabilities, std::int64_t index) const {
    const auto rounded = [](double p) { return std::round(p * 1e6) / 1e6; };
    Json json{{"id", row.id}};
    auto missing = Json::array();
    if (input_.modality == Modality::both && row.image.empty()) missing.push_back("image");
    if (input_.modality == Modality::both && row.text.empty()) missing.push_back("text");
    if (!missing.empty()) json["missing"] = missing;
    for (std::size_t t = 0; t < card_.tasks.size(); ++t) {
      const auto& classes = card_.tasks[t].classes;
      const double* p = probabilities[t].const_data_ptr<double>() + index * std::ssize(classes);
      const auto best = static_cast<std::size_t>(std::max_element(p, p + classes.size()) - p);
      Json each = Json::object();
      for (std::size_t k = 0; k < classes.size(); ++k) each[classes[k]] = rounded(p[k]);
      json["predictions"][card_.spec.tasks[t].slug] = {
          {"class", classes[best]}, {"probability", rounded(p[best])}, {"probabilities", each}};
    }
    return json;
  }

  Json problem_line(const Prepared& prepared) const {
    if (!options_.skip_bad_rows) throw Error("{}: {}", prepared.row.where, prepared.problem);
    return {{"id", prepared.row.id}, {"error", prepared.problem}};
  }

  const ModelCard& card_;
  const MultimodalModel& model_;
  at::Device device_;
  const PredictOptions& options_;
  InputSpec input_;
  std::optional<WordPieceTokenizer> tokenizer_;
};

}  // namespace

PredictSummary predict_rows(const OpenedModel& model, at::Device device, const PredictOptions& options) {
  using Clock = std::chrono::steady_clock;
  const auto start = Clock::now();
  const fs::path image_root = options.image_root.empty() ? options.input.parent_path() : options.image_root;
  std::int64_t total = 0;
  // What is wrong with the table itself is told before anything is computed.
  read_prediction_rows(
      options.input, options.columns, image_root, [&](const PredictionRow&) { ++total; },
      [&](const std::string& where, const std::string& what) {
        ++total;
        if (!options.skip_bad_rows) throw Error("{}: {}", where, what);
      });
  const nn::ConstantWeights constant;
  const Predictor predictor(model, device, options);
  AtomicFile output(options.output);
  Progress progress(stderr, is_terminal(stderr), "predict", total);
  PredictSummary summary;
  std::vector<PredictionRow> waiting;
  const auto write = [&](const Json& line) {
    line.contains("error") ? ++summary.skipped : ++summary.predicted;
    // A text that is not UTF-8 never gets here; a file name in an error message may.
    output.write(line.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n");
  };
  const auto flush = [&] {
    if (stop_requested()) throw Interrupted("stopped by a signal; nothing was written");
    for (const auto& line : predictor.run(std::exchange(waiting, {}))) write(line);
    progress.update(summary.predicted + summary.skipped, summary.predicted);
  };
  read_prediction_rows(
      options.input, options.columns, image_root,
      [&](const PredictionRow& row) {
        waiting.push_back(row);
        if (std::ssize(waiting) >= options.batch_size) flush();
      },
      [&](const std::string& where, const std::string& what) {
        flush();
        write({{"where", where}, {"error", what}});
      });
  flush();
  std::move(output).commit();
  summary.seconds = std::chrono::duration<double>(Clock::now() - start).count();
  return summary;
}

}  // namespace mmkd
