#include "mmkd/eval/evaluate.h"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "mmkd/base/error.h"
#include "mmkd/base/signals.h"
#include "mmkd/comm/agree.h"
#include "mmkd/nn/linear.h"
#include "mmkd/train/loader.h"
#include "mmkd/train/precision.h"

namespace mmkd {
namespace {

using Clock = std::chrono::steady_clock;

/// This rank's part: for each sample the labels, then the probabilities of all tasks, then route and energy where there
/// are any, as doubles.
struct Part {
  std::vector<double> values;
  std::string not_finite;  // id of the first sample whose outputs are not; empty: none
  double forward_seconds = 0;
};

/// What stands in a row of Part::values.
struct Columns {
  std::size_t tasks = 0;
  std::vector<std::int64_t> classes;  // of each task
  std::size_t routes = 0;             // 0: no column
  bool energy = false;
  std::size_t width() const {
    std::size_t total = tasks + (routes > 0 ? 1 : 0) + (energy ? 1 : 0);
    for (const auto k : classes) total += static_cast<std::size_t>(k);
    return total;
  }
};

Columns columns_of(const MultimodalModel& model) {
  Columns columns;
  columns.tasks = model.spec().tasks.size();
  for (const auto& task : model.spec().tasks) columns.classes.push_back(task.classes);
  columns.routes = model.route_names().size();
  columns.energy = model.has_energy();
  return columns;
}

void append(Part& part, const SampleSource& source, const Batch& batch, const ModelOutput& output) {
  std::vector<at::Tensor> columns;
  const auto add = [&](const at::Tensor& column) { columns.push_back(column.to(at::kCPU, at::kDouble).unsqueeze(1)); };
  for (const auto& labels : batch.labels) add(labels);
  for (const auto& task : output.logits) columns.push_back(at::softmax(task.to(at::kCPU, at::kDouble), 1));
  if (output.route.defined()) add(output.route);
  if (output.energy.defined()) add(output.energy);
  const at::Tensor rows = at::cat(columns, 1).contiguous();
  const at::Tensor finite = at::isfinite(rows).all(1);
  if (part.not_finite.empty() && !finite.all().item<bool>())
    part.not_finite =
        source.get(batch.rows.at(static_cast<std::size_t>(finite.to(at::kInt).argmin().item<std::int64_t>()))).id;
  const double* data = rows.const_data_ptr<double>();
  part.values.insert(part.values.end(), data, data + rows.numel());
}

/// The first model's output, with the mean of all models' logits.
ModelOutput forward(std::span<MultimodalModel* const> models, const ModelInput& input) {
  ModelOutput output = models.front()->forward(input, {});
  for (std::size_t m = 1; m < models.size(); ++m) {
    const auto other = models[m]->forward(input, {});
    for (std::size_t t = 0; t < output.logits.size(); ++t)
      output.logits[t] = output.logits[t].to(at::kFloat) + other.logits[t].to(at::kFloat);
  }
  if (models.size() > 1) {
    for (auto& logits : output.logits) logits = logits / static_cast<double>(models.size());
  }
  return output;
}

Part run_blocks(const World& world, std::span<MultimodalModel* const> models, const SampleSource& source,
                const InputSpec& input, const EvaluationOptions& options) {
  Part part;
  AssemblerOptions assembler;
  (options.is_teacher ? assembler.teacher : assembler.student) = input;
  assembler.pin_memory = world.device().is_cuda();
  auto plans = block_plans(source.size(), options.batch_size, world.size(), world.rank());
  perturb_plans(options.perturbation, options.seed, source.size(), plans);
  BatchLoader loader(BatchAssembler(source, assembler), std::move(plans), {.num_workers = options.num_workers});
  while (auto next = loader.next()) {
    if (stop_requested()) break;  // the vote behind the loop makes every rank leave
    auto& model_input = options.is_teacher ? next->teacher : next->student;
    perturb_input(options.perturbation, options.seed, next->sample_keys, model_input);
    const Batch batch = to_device(std::move(*next), world.device());
    if (batch.rows.empty()) continue;
    const auto start = Clock::now();
    ModelOutput output;
    {
      const AutocastGuard autocast(world.device().type(), options.precision);
      output = forward(models, options.is_teacher ? batch.teacher : batch.student);
    }
    append(part, source, batch, output);  // copies to the CPU, so the device has finished when the clock is read
    part.forward_seconds += std::chrono::duration<double>(Clock::now() - start).count();
  }
  return part;
}

std::string bytes_of(const Part& part) {
  std::string bytes(sizeof(double) + part.values.size() * sizeof(double), '\0');
  std::memcpy(bytes.data(), &part.forward_seconds, sizeof(double));
  std::memcpy(bytes.data() + sizeof(double), part.values.data(), part.values.size() * sizeof(double));
  return bytes;
}

}  // namespace

namespace {

/// Rows of all samples in their order.
Predictions from_rows(const std::vector<double>& values, std::size_t samples, const Columns& columns) {
  const std::size_t width = columns.width();
  if (values.size() != samples * width) {
    throw Error("evaluation: {} values arrived, expected {} for {} samples", values.size(), samples * width, samples);
  }
  Predictions result;
  std::size_t offset = columns.tasks;
  for (std::size_t t = 0; t < columns.tasks; ++t) {
    Predictions::Task task;
    task.classes = columns.classes[t];
    const auto classes = static_cast<std::size_t>(task.classes);
    for (std::size_t i = 0; i < samples; ++i) {
      const double* row = values.data() + i * width;
      task.y_true.push_back(static_cast<std::int32_t>(row[t]));
      task.prob.insert(task.prob.end(), row + offset, row + offset + classes);
    }
    offset += classes;
    result.tasks.push_back(std::move(task));
  }
  if (samples == 0) return result;
  if (columns.routes > 0) {
    result.route_shares.assign(columns.routes, 0);
    for (std::size_t i = 0; i < samples; ++i)
      result.route_shares.at(static_cast<std::size_t>(values[i * width + offset])) +=
          1.0 / static_cast<double>(samples);
    ++offset;
  }
  if (columns.energy) {
    double sum = 0;
    for (std::size_t i = 0; i < samples; ++i) sum += values[i * width + offset];
    result.mean_energy = sum / static_cast<double>(samples);
  }
  return result;
}

}  // namespace

Predictions predict(const World& world, std::span<MultimodalModel* const> models, const SampleSource& source,
                    const InputSpec& input, const EvaluationOptions& options) {
  const at::NoGradGuard no_grad;
  const nn::ConstantWeights constant;
  for (auto* model : models) model->eval();
  const Part mine = run_blocks(world, models, source, input, options);
  const auto& mpi = world.mpi();
  if (mpi.any(stop_requested().has_value())) {
    throw CollectiveError(ExitCode::interrupted,
                          "stopped by a signal during evaluation; the same command goes on from the last checkpoint");
  }
  // A score of such outputs would mean nothing.
  on_all_ranks(mpi, [&] {
    if (!mine.not_finite.empty())
      throw Error(
          "the model's outputs for sample {} are not finite: its weights have grown out of all bounds; lower the "
          "learning rate or set training.clip_norm",
          mine.not_finite);
  });
  const auto parts = mpi.gather(bytes_of(mine), 0);
  if (world.rank() != 0) return {};

  std::vector<double> values;
  double seconds = 0;
  for (const auto& bytes : parts) {  // contiguous runs of blocks: rank order is sample order
    double forward_seconds = 0;
    std::memcpy(&forward_seconds, bytes.data(), sizeof(double));
    seconds += forward_seconds;
    const std::size_t count = bytes.size() / sizeof(double) - 1;
    values.resize(values.size() + count);
    std::memcpy(values.data() + values.size() - count, bytes.data() + sizeof(double), count * sizeof(double));
  }
  const auto samples = static_cast<std::size_t>(source.size());
  auto result = from_rows(values, samples, columns_of(*models.front()));
  result.infer_ms = samples == 0 ? 0 : seconds * 1e3 / static_cast<double>(samples);
  return result;
}

SplitScores score(const Predictions& predictions, const std::vector<PackedTask>& tasks, const std::string& split) {
  if (predictions.tasks.size() != tasks.size()) {
    throw Error("scores of {}: {} tasks were predicted, the data has {}", split, predictions.tasks.size(),
                tasks.size());
  }
  SplitScores scores{.split = split, .tasks = {}, .infer_ms = predictions.infer_ms};
  for (std::size_t t = 0; t < tasks.size(); ++t) {
    const auto& task = predictions.tasks[t];
    scores.tasks.push_back(
        {slug(tasks[t].label), tasks[t].classes,
         score_classification(task.y_true, argmax_rows(task.prob, task.classes), task.prob, task.classes)});
  }
  return scores;
}

}  // namespace mmkd
