#include <ATen/Parallel.h>

#include <algorithm>
#include <chrono>

#include "host_shares.h"
#include "mmkd/base/error.h"
#include "mmkd/base/log.h"
#include "mmkd/base/signals.h"
#include "mmkd/comm/agree.h"
#include "mmkd/train/trainer.h"
#include "model_state.h"

// What a trainer saves and goes on from.
namespace mmkd {
namespace {

const at::Tensor& find(const std::vector<NamedTensor>& named, const std::string& name) {
  const auto found =
      std::find_if(named.begin(), named.end(), [&](const NamedTensor& item) { return item.name == name; });
  if (found == named.end()) throw Error("the checkpoint lacks tensor '{}': it belongs to another model", name);
  return found->tensor;
}

std::vector<NamedTensor> with_prefix(const std::vector<NamedTensor>& named, const std::string& prefix) {
  std::vector<NamedTensor> chosen;
  for (const auto& item : named) {
    if (item.name.starts_with(prefix)) chosen.push_back({item.name.substr(prefix.size()), item.tensor});
  }
  return chosen;
}

}  // namespace

std::vector<NamedTensor> weights_of(const MultimodalModel& model) {
  std::vector<NamedTensor> weights;
  for (const auto& item : model.named_parameters()) weights.push_back({item.key(), item.value().detach()});
  for (const auto& item : model.named_buffers()) weights.push_back({item.key(), item.value().detach()});
  return weights;
}

std::vector<NamedTensor> snapshot(const std::vector<NamedTensor>& named) {
  std::vector<NamedTensor> copies;
  copies.reserve(named.size());
  for (const auto& item : named)
    copies.push_back({item.name, item.tensor.detach().to(at::kCPU, item.tensor.scalar_type(), false, true)});
  return copies;
}

/// All but the optimizer's.
std::vector<NamedTensor> Trainer::model_state() const {
  std::vector<NamedTensor> state;
  for (const auto& item : weights_of(parts_.model)) state.push_back({"model." + item.name, item.tensor});
  if (parts_.joint_teacher != nullptr) {
    for (const auto& item : weights_of(*parts_.joint_teacher)) state.push_back({"teacher." + item.name, item.tensor});
  }
  for (const auto& item : parts_.objective.named_parameters())
    state.push_back({"objective." + item.key(), item.value().detach()});
  return state;
}

/// Collective. Copies the state; the file follows on a thread of rank 0.
void Trainer::save_checkpoint() {
  using Clock = std::chrono::steady_clock;
  saved_ = Clock::now();
  const at::Tensor sums = all_loss_sums();
  if (!writer_) return;
  TrainingState checkpoint;
  checkpoint.step = step_;
  checkpoint.state = {{"stage", spec_.stage},
                      {"epoch", epoch_},
                      {"step_in_epoch", step_in_epoch_},
                      {"step", step_},
                      {"world", parts_.world.size()},
                      {"threads", at::get_num_threads()},
                      {"learning_rate", last_lr_},
                      {"skipped_samples", skipped_samples_},
                      {"bad_steps", bad_steps_},
                      {"mean_loss", mean_loss_},
                      {"history", outcome_.history},
                      {"best_epoch", outcome_.best_epoch},
                      {"best_score", outcome_.best_score}};
  checkpoint.tensors = snapshot(model_state());
  for (auto& item : optimizer_.copied_state())
    checkpoint.tensors.push_back({"optimizer." + item.name, std::move(item.tensor)});
  for (const auto& item : outcome_.best) checkpoint.tensors.push_back({"best." + item.name, item.tensor});
  checkpoint.tensors.push_back({"loss_sums", sums});
  writer_->write(std::move(checkpoint));
  log::debug("{}: training waited {:.1f} ms for the checkpoint after step {}", spec_.stage,
             std::chrono::duration<double, std::milli>(Clock::now() - saved_).count(), step_);
}

/// Between two steps the ranks agree whether to stop (any of them was asked to) and whether to save (rank 0's clock).
void Trainer::vote() {
  constexpr unsigned kStop = 1, kSave = 2;
  const auto& mpi = parts_.world.mpi();
  const bool due = writer_ && spec_.checkpoint_every.count() > 0 &&
                   std::chrono::steady_clock::now() - saved_ > spec_.checkpoint_every;
  const auto votes = mpi.any_of((stop_requested() ? kStop : 0U) | (due ? kSave : 0U));
  if (votes == 0) return;
  save_checkpoint();
  if ((votes & kStop) == 0) return;
  const auto failure = from_rank_zero(mpi, [&] { return writer_->finish(); });
  throw CollectiveError(
      ExitCode::interrupted,
      fmt::format("stopped by a signal in stage {} after step {} (epoch {}); {}, the same command goes on from there",
                  spec_.stage, step_, epoch_ + 1,
                  failure.empty()
                      ? "a checkpoint is on disk"
                      : fmt::format("no checkpoint could be written ({}); if an older one is on disk", failure)));
}

void Trainer::resume() {
  std::optional<TrainingState> checkpoint;
  const std::string text = from_rank_zero(parts_.world.mpi(), [&]() -> std::string {
    checkpoint = parts_.checkpoints->load_newest();
    if (!checkpoint) return "";
    const auto stored = [&](const std::string& name, const at::Tensor& like) -> const at::Tensor& {
      const auto& tensor = find(checkpoint->tensors, name);
      if (tensor.sizes() != like.sizes())
        throw Error("the checkpoint's tensor '{}' has another shape than the model's", name);
      return tensor;
    };
    const at::NoGradGuard no_grad;
    for (const auto& item : model_state()) item.tensor.copy_(stored(item.name, item.tensor));
    optimizer_.load_state(
        [&](const NamedTensor& item) -> const at::Tensor& { return stored("optimizer." + item.name, item.tensor); });
    return checkpoint->state.dump();
  });
  if (text.empty()) return;
  const at::NoGradGuard no_grad;
  for (const auto& item : model_state()) {
    at::Tensor target = item.tensor;
    if (!shares_ || !shares_->hold(target)) parts_.world.broadcast(target, 0);
  }
  optimizer_.broadcast_state(parts_.world);
  const auto state = nlohmann::ordered_json::parse(text);
  epoch_ = state.at("epoch").get<std::int64_t>();
  step_in_epoch_ = state.at("step_in_epoch").get<std::int64_t>();
  step_ = state.at("step").get<std::int64_t>();
  last_lr_ = state.at("learning_rate").get<double>();
  skipped_samples_ = state.at("skipped_samples").get<std::int64_t>();
  bad_steps_ = state.at("bad_steps").get<std::int64_t>();
  mean_loss_ = state.at("mean_loss").get<double>();
  outcome_.history = state.at("history").get<std::vector<nlohmann::ordered_json>>();
  outcome_.best_epoch = state.at("best_epoch").get<std::int64_t>();
  outcome_.best_score = state.at("best_score").get<double>();

  const auto world = state.at("world").get<std::int64_t>();
  const bool same_world = world == parts_.world.size();
  at::Tensor sums =
      at::zeros({world, loss_sums_.size(0)}, at::TensorOptions(at::kDouble).device(parts_.world.device()));
  if (parts_.world.rank() == 0) {
    outcome_.best = snapshot(with_prefix(checkpoint->tensors, "best."));
    sums.copy_(find(checkpoint->tensors, "loss_sums"));
  }
  parts_.world.broadcast(sums, 0);
  if (same_world) {
    loss_sums_.copy_(sums[parts_.world.rank()]);
  } else if (parts_.world.rank() == 0) {
    loss_sums_.copy_(sums.sum(0));
  }
  log::info("{}: going on from the checkpoint after step {} (epoch {}, step {} of the epoch)", spec_.stage, step_,
            epoch_ + 1, step_in_epoch_);
  if (!same_world || state.at("threads").get<int>() != at::get_num_threads()) {
    log::info(
        "{}: the checkpoint was made with {} ranks of {} threads, this run has {} of {}: results agree to rounding, "
        "not bit for bit",
        spec_.stage, world, state.at("threads").get<int>(), parts_.world.size(), at::get_num_threads());
  }
}

}  // namespace mmkd
