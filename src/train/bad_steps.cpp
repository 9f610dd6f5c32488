#include <algorithm>
#include <cmath>

#include "mmkd/base/error.h"
#include "mmkd/base/log.h"
#include "mmkd/comm/agree.h"
#include "mmkd/train/trainer.h"
#include "trained_parameters.h"

// What a trainer does about a step that changed nothing.
namespace mmkd {

/// The norm of the averaged gradients is the same everywhere, so every rank finds the same step bad without asking the
/// others.
void Trainer::check_step(const Batch& batch, const at::Tensor& skipped, double loss) {
  const bool bad = skipped.item<float>() != 0;  // waits for the device
  if (spec_.spike_factor > 0 && !bad) {
    constexpr double kMemory = 0.98;
    mean_loss_ = mean_loss_ > 0 ? kMemory * mean_loss_ + (1 - kMemory) * loss : loss;
  }
  if (!bad) return;
  ++bad_steps_;
  skipped_samples_ += batch.shares.global_count;
  const auto findings = parts_.world.mpi().all_gather(bad_terms(batch));
  std::string text;
  for (std::size_t rank = 0; rank < findings.size(); ++rank) {
    if (!findings[rank].empty()) text += fmt::format("\n  rank {}: {}", rank, findings[rank]);
  }
  const auto gradients = bad_gradients();
  if (!gradients.empty()) text += "\n  " + gradients;
  if (text.empty()) text = "\n  the loss is a spike";
  const std::string what =
      fmt::format("{}: step {} (epoch {}) is skipped, since its loss or gradients cannot be used:{}", spec_.stage,
                  step_, epoch_ + 1, text);
  if (bad_steps_ > spec_.max_bad_steps) {
    throw CollectiveError(
        ExitCode::failure,
        fmt::format("{}\nThat makes {} such steps, more than training.max_bad_steps ({}). Lower the learning rate, set "
                    "training.clip_norm, or look at the samples; the checkpoint of the epoch before is kept.",
                    what, bad_steps_, spec_.max_bad_steps));
  }
  if (parts_.world.rank() == 0) log::warn("{}", what);
}

/// Terms of the loss that are not finite on this rank, with its samples. Empty: all are.
std::string Trainer::bad_terms(const Batch& batch) const {
  std::string text;
  const at::Tensor terms = step_terms_.to(at::kCPU);
  const auto names = parts_.objective.term_names();
  for (std::size_t i = 0; i < names.size(); ++i) {
    const double value = terms[static_cast<std::int64_t>(i)].item<double>();
    if (std::isfinite(value)) continue;
    text +=
        fmt::format("{}term '{}' is {}", text.empty() ? "" : ", ", names[i], std::isnan(value) ? "NaN" : "infinite");
  }
  if (text.empty()) return text;
  text += "; samples";
  for (const auto row : batch.rows) text += " " + std::string(parts_.train.get(row).id);
  return text;
}

/// Collective. The first parameters whose gradients are not finite on some rank, and the number of the others.
std::string Trainer::bad_gradients() const {
  constexpr std::size_t kMost = 3;
  const auto parameters = parameters_of(parts_);
  std::string mine(parameters.size(), '0');
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const at::Tensor& gradient = parameters[i].tensor.grad();
    if (gradient.defined() && !at::isfinite(gradient).all().item<bool>()) mine[i] = '1';
  }
  const auto all = parts_.world.mpi().all_gather(mine);
  std::string text;
  std::size_t found = 0;
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    if (std::none_of(all.begin(), all.end(), [&](const std::string& of_rank) { return of_rank[i] == '1'; })) continue;
    if (++found <= kMost) text += fmt::format("{}{}", text.empty() ? "gradients of " : ", ", parameters[i].name);
  }
  if (found > kMost) text += fmt::format(" and {} more", found - kMost);
  return text;
}

}  // namespace mmkd
