#include "mmkd/eval/evaluate.h"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "mmkd/base/error.h"
#include "mmkd/base/signals.h"
#include "mmkd/comm/agree.h"
#include "mmkd/train/loader.h"
#include "mmkd/train/precision.h"

namespace mmkd {
namespace {

using Clock = std::chrono::steady_clock;

/// This rank's part: for each sample the labels, then the probabilities of all tasks, as doubles.
struct Part {
  std::vector<double> values;
  double forward_seconds = 0;
  std::vector<std::int64_t> classes;  // of each task
};

void append(Part& part, const Batch& batch, const std::vector<at::Tensor>& logits) {
  std::vector<at::Tensor> columns;
  for (const auto& labels : batch.labels) columns.push_back(labels.to(at::kCPU, at::kDouble).unsqueeze(1));
  for (const auto& task : logits) columns.push_back(at::softmax(task.to(at::kCPU, at::kDouble), 1));
  const at::Tensor rows = at::cat(columns, 1).contiguous();  // [B, tasks + sum of classes]
  const double* data = rows.const_data_ptr<double>();
  part.values.insert(part.values.end(), data, data + rows.numel());
  if (part.classes.empty()) {
    for (const auto& task : logits) part.classes.push_back(task.size(1));
  }
}

Part run_blocks(const World& world, MultimodalModel& model, const SampleSource& source, const InputSpec& input,
                const EvaluationOptions& options) {
  Part part;
  AssemblerOptions assembler;
  (options.is_teacher ? assembler.teacher : assembler.student) = input;
  assembler.pin_memory = world.device().is_cuda();
  BatchLoader loader(BatchAssembler(source, assembler),
                     block_plans(source.size(), options.batch_size, world.size(), world.rank()),
                     {.num_workers = options.num_workers});
  while (auto next = loader.next()) {
    if (stop_requested()) break;  // the vote behind the loop makes every rank leave
    const Batch batch = to_device(std::move(*next), world.device());
    if (batch.rows.empty()) continue;
    const auto start = Clock::now();
    ModelOutput output;
    {
      const AutocastGuard autocast(world.device().type(), options.precision);
      output = model.forward(options.is_teacher ? batch.teacher : batch.student, {});
    }
    append(part, batch, output.logits);  // copies to the CPU, so the device has finished when the clock is read
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

Predictions predict(const World& world, MultimodalModel& model, const SampleSource& source, const InputSpec& input,
                    const EvaluationOptions& options) {
  const at::NoGradGuard no_grad;
  model.eval();
  const Part mine = run_blocks(world, model, source, input, options);
  const auto& mpi = world.mpi();
  if (mpi.any(stop_requested().has_value())) {
    throw CollectiveError(ExitCode::interrupted,
                          "stopped by a signal during evaluation; the same command goes on from the last checkpoint");
  }
  const auto parts = mpi.gather(bytes_of(mine), 0);
  Predictions result;
  if (world.rank() != 0) return result;

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
  const std::size_t tasks = mine.classes.size();
  std::size_t width = tasks;
  for (const auto classes : mine.classes) width += static_cast<std::size_t>(classes);
  const auto n = static_cast<std::size_t>(source.size());
  if (values.size() != n * width)
    throw Error("evaluation: {} values arrived, expected {} for {} samples", values.size(), n * width, n);
  std::size_t offset = tasks;
  for (std::size_t t = 0; t < tasks; ++t) {
    Predictions::Task task;
    task.classes = mine.classes[t];
    const auto classes = static_cast<std::size_t>(task.classes);
    for (std::size_t i = 0; i < n; ++i) {
      const double* row = values.data() + i * width;
      task.y_true.push_back(static_cast<std::int32_t>(row[t]));
      task.prob.insert(task.prob.end(), row + offset, row + offset + classes);
    }
    offset += classes;
    result.tasks.push_back(std::move(task));
  }
  result.infer_ms = n == 0 ? 0 : seconds * 1e3 / static_cast<double>(n);
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
