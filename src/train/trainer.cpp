#include "mmkd/train/trainer.h"

#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/autograd.h>

#include <algorithm>
#include <cmath>

#include "device_batches.h"
#include "host_shares.h"
#include "mmkd/base/error.h"
#include "mmkd/base/log.h"
#include "mmkd/comm/activity.h"
#include "mmkd/comm/agree.h"
#include "mmkd/nn/one_hot.h"
#include "mmkd/train/loader.h"
#include "mmkd/train/precision.h"
#include "model_state.h"
#include "named_values.h"
#include "row_gradients.h"
#include "step_graphs.h"
#include "trained_parameters.h"

namespace mmkd {
namespace {

/// The world as batch norms see it.
class WorldRanks final : public nn::BatchRanks {
 public:
  explicit WorldRanks(const World& world) : world_(world) {}
  at::Tensor all_gather(const at::Tensor& values) const override {
    const at::NoGradGuard no_grad;
    return world_.all_gather(values.unsqueeze(0).contiguous());
  }

 private:
  const World& world_;
};

/// What distinguishes the random numbers of a joint teacher from those of its student, whose layers have the same
/// names.
constexpr std::uint64_t kJointTeacherSeed = 0x7465616368657221;

/// Who computes activations twice has no memory for weights in two types either.
bool uses_copies(const TrainerSpec& spec) { return spec.precision == Precision::bf16 && !spec.gradient_checkpointing; }

/// Null where each rank has a model of its own.
std::shared_ptr<HostShares> shares_of(const TrainerParts& parts, const TrainerSpec& spec) {
  // Gradients that travel in bfloat16 are rounded first; shared ones don't travel.
  if (!spec.host_sharing || parts.world.size() == 1 || spec.gradient_exchange != Precision::fp32) return nullptr;
  if (spec.epochs == 0) return nullptr;  // nothing is trained
  std::string why_not;
  auto shares =
      HostShares::create(parts.world, values(parameters_of(parts)), tables_of(parts), uses_copies(spec), why_not);
  if (!shares && parts.world.rank() == 0) log::debug("{}: ranks share no memory: {}", spec.stage, why_not);
  return shares;
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// Rows [begin, end) of this rank's part.
Batch slice(Batch batch, std::int64_t begin, std::int64_t end) {
  auto tensors = device_tensors(batch);
  tensors.insert(tensors.end(), {&batch.sample_keys, &batch.teacher.text_lengths, &batch.student.text_lengths});
  for (auto* tensor : tensors)
    if (tensor->defined()) *tensor = tensor->slice(0, begin, end);
  return batch;
}

}  // namespace

Trainer::Trainer(const TrainerParts& parts, const TrainerSpec& spec, TrainerHooks hooks)
    : parts_(parts),
      spec_(spec),
      hooks_(std::move(hooks)),
      sampler_(parts.train.size(), spec.batch_size, parts.world.size(), parts.world.rank()),
      shares_(shares_of(parts, spec)),
      optimizer_(parameters_of(parts), spec.optimizer, joint_parameters(parts).size(),
                 spec.joint_teacher_lr / spec.peak_lr, shares_),
      batch_ranks_(std::make_unique<WorldRanks>(parts.world)),
      route_names_(parts.model.route_names()) {
  loss_sums_ = at::zeros({static_cast<std::int64_t>(sum_names().size())},
                         at::TensorOptions(at::kDouble).device(parts.world.device()));
  step_terms_ = at::zeros_like(loss_sums_);
  skipped_ = at::zeros({}, loss_sums_.options().dtype(at::kFloat));
  if (const auto device = parts_.world.device(); !device.is_cpu()) {
    device_step_ = at::zeros({1}, loss_sums_.options().dtype(at::kLong));
    copies_ = c10::impl::VirtualGuardImpl(device.type()).getStreamFromGlobalPool(device);
  }
  if (parts_.make_graph) {
    if (parts_.world.size() > 1 || spec_.micro_batch_size > 0 || spec_.spike_factor > 0)
      throw Error("trainer: graphs of steps need one rank, and neither micro-batches nor spike_factor");
    graphs_ = std::make_unique<StepGraphs>(parts_.make_graph);
  }
  if (parts_.checkpoints != nullptr) writer_.emplace(*parts_.checkpoints);
  if (spec_.micro_batch_size > 0 && parts_.objective.relational() && parts_.joint_teacher != nullptr) {
    throw UsageError(
        "training.micro_batch_size: expected 0 with mode joint and a loss that compares samples with one another");
  }
}

/// What the elements of loss_sums_ are, as the metrics call them.
std::vector<std::string> Trainer::sum_names() const {
  std::vector<std::string> names;
  const auto add_terms = [&](const Objective& objective, const std::string& prefix) {
    for (const auto& term : objective.term_names())
      names.push_back(prefix + (term == "total" ? "train_loss" : fmt::format("loss_{}", term)));
  };
  add_terms(parts_.objective, "");
  for (const auto& route : route_names_) names.push_back("route_" + route);
  if (parts_.model.has_energy()) names.emplace_back("expected_energy");
  if (parts_.joint_objective != nullptr) add_terms(*parts_.joint_objective, "teacher_");
  return names;
}

Trainer::~Trainer() = default;

ScheduleConfig Trainer::schedule() const {
  const std::int64_t total = spec_.epochs * sampler_.steps_per_epoch();
  return {.schedule = spec_.schedule,
          .peak_lr = spec_.peak_lr,
          .warmup_steps = warmup_steps(spec_.warmup_fraction, total),
          .total_steps = total};
}

TrainOutcome Trainer::run() {
  activity().enter_phase(spec_.stage);
  const StreamOfGraphs stream(graphs_ ? parts_.world.device() : at::kCPU);
  began_ = std::chrono::steady_clock::now();
  collectives_before_ = activity().state().collective_seconds;
  // After resume(): the broadcast of the initial parameters inside is then a check, not a change.
  const auto parameters = values(parameters_of(parts_));
  // Its hooks run before those that reduce gradients over ranks.
  // c10d's Reducer keeps gradients in its buckets; with one rank they need memory from the backward pass on only.
  using Memory = nn::DirectGradients::Memory;
  direct_.emplace(parameters, tables_of(parts_), parts_.world.size() == 1 ? Memory::per_step : Memory::kept);
  if (shares_) {
    use_shares(parameters);
  } else {
    sync_.emplace(parts_.world, parameters, tables_of(parts_),
                  spec_.gradient_exchange == Precision::bf16 ? at::kBFloat16 : at::kFloat);
    if (uses_copies(spec_)) working_weights_.emplace(parameters);
  }
  while (epoch_ < spec_.epochs) {
    train_epoch();
    finish_epoch();
  }
  working_weights_.reset();
  sync_.reset();
  direct_.reset();
  optimizer_.leave_shares();
  shares_.reset();
  if (writer_) writer_->finish();
  return outcome_;
}

/// Collective. Gradients lie where the other ranks read them, working weights where they write them.
void Trainer::use_shares(const std::vector<at::Tensor>& parameters) {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> copies;
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const auto& shared = shares_->parameters()[i];
    parameters[i].mutable_grad() =
        shared.is_table ? FlatTensors::zeros_like({parameters[i]}).parts[0] : shared.gradient;
    copies.push_back(shared.copy);
    if (shared.copy.defined() && parts_.world.rank() == 0) shared.copy.copy_(shared.value);
  }
  shares_->meet();
  if (uses_copies(spec_)) working_weights_.emplace(parameters, copies);
}

void Trainer::train_epoch() {
  parts_.model.train();
  parts_.objective.train();
  if (parts_.joint_teacher != nullptr) parts_.joint_teacher->train();
  auto options = parts_.assembler;
  options.pin_memory = parts_.world.device().is_cuda();
  // Under autocast pictures are rounded by the first layer that sees them; so they are when they are made.
  if (spec_.precision == Precision::bf16) options.pixel_type = at::kBFloat16;
  // Few sizes of batches, each of which is recorded.
  constexpr std::int64_t kPaddingStep = 32;
  for (auto* input : {&options.teacher, &options.student})
    if (graphs_ && *input) (*input)->padding_step = kPaddingStep;
  BatchLoader loader(BatchAssembler(parts_.train, options),
                     epoch_plans(sampler_, {.world = parts_.world.size(),
                                            .seed = spec_.seed,
                                            .epoch = epoch_,
                                            .start_step = step_in_epoch_,
                                            .views = spec_.views}),
                     {.num_workers = spec_.num_workers});
  const double waited_before = waited_for_data_;
  DeviceBatches batches(std::move(loader), parts_.world.device(), copies_);
  while (const auto batch = batches.next()) {
    waited_for_data_ = waited_before + batches.waited();
    train_step(*batch, batches);
    vote();
  }
}

/// What a forward pass changes though no gradient leads to it: running statistics of batch norms.
std::vector<at::Tensor> Trainer::buffers() const {
  auto all = parts_.model.buffers();
  if (parts_.joint_teacher != nullptr) {
    const auto more = parts_.joint_teacher->buffers();
    all.insert(all.end(), more.begin(), more.end());
  }
  return all;
}

void Trainer::train_step(const Batch& batch, DeviceBatches& batches) {
  last_lr_ = learning_rate(schedule(), step_);
  optimizer_.set_learning_rate(last_lr_);
  if (device_step_.defined()) device_step_.fill_(step_);
  double loss = 0;
  if (graphs_) {
    graphs_->run(batch, [this](const Batch& of_graph, bool recorded) {
      recorded_ = recorded;
      compute_step(of_graph);
    });
  } else {
    loss = compute_step(batch);
  }
  batches.fetch_next();
  ++step_;
  ++step_in_epoch_;
  samples_ += batch.shares.global_count;
  activity().tick(step_);
  check_step(batch, skipped_, loss);
  direct_->release();
  if (hooks_.on_step) report_step();
}

/// The step but for what the host keeps of it. The loss is that of the global batch where spikes are watched for, which
/// waits for the device; 0 otherwise.
double Trainer::compute_step(const Batch& batch) {
  direct_->begin_step();
  optimizer_.zero_grad([&](const at::Tensor& parameter) { return direct_->serves(parameter); });
  const at::Tensor sums_before = loss_sums_.clone();
  const auto changing = buffers();
  std::vector<at::Tensor> buffers_before;
  buffers_before.reserve(changing.size());
  for (const auto& buffer : changing) buffers_before.push_back(buffer.clone());
  step_terms_.zero_();
  if (sync_) sync_->begin_step();
  const std::int64_t rows = batch.labels.at(0).size(0);
  const std::int64_t part = spec_.micro_batch_size > 0 ? std::min(spec_.micro_batch_size, rows) : rows;
  try {
    if (spec_.micro_batch_size > 0 && parts_.objective.relational()) {
      two_passes(batch, part);
    } else {
      one_pass(batch, part);
    }
  } catch (const Error&) {
    // Who catches it may compute the step anew (StepGraphs).
    loss_sums_.copy_(sums_before);
    for (std::size_t i = 0; i < changing.size(); ++i) changing[i].copy_(buffers_before[i]);
    throw;
  }
  direct_->end_step();
  average_rows(parts_.world, *direct_, tables_of(parts_));
  const bool watches_spikes = spec_.spike_factor > 0;
  const double loss = watches_spikes ? global_loss(batch) : 0;
  at::Tensor spike;
  if (watches_spikes && mean_loss_ > 0 && loss > spec_.spike_factor * mean_loss_)
    spike = at::ones({}, at::TensorOptions(at::kFloat).device(parts_.world.device()));
  const auto rows_of = [this](const at::Tensor& parameter) { return direct_->rows_of(parameter); };
  const auto copy_of = [this](const at::Tensor& parameter) {
    return working_weights_ ? working_weights_->copy_of(parameter) : at::Tensor();
  };
  skipped_.copy_(optimizer_.update(spike, rows_of, copy_of).skipped);
  // Nothing of a bad step stays.
  const at::Tensor bad = skipped_.ne(0);
  loss_sums_.copy_(at::where(bad, sums_before, loss_sums_));
  for (std::size_t i = 0; i < changing.size(); ++i) changing[i].copy_(at::where(bad, buffers_before[i], changing[i]));
  return loss;
}

void Trainer::report_step() const {
  hooks_.on_step({.epoch = epoch_ + 1,
                  .epochs = spec_.epochs,
                  .step = step_,
                  .steps = spec_.epochs * sampler_.steps_per_epoch(),
                  .samples = samples_,
                  .learning_rate = last_lr_,
                  .seconds = seconds_since(began_),
                  .waiting_for_data = waited_for_data_,
                  .in_collectives = activity().state().collective_seconds - collectives_before_,
                  .losses = [this] { return losses_so_far(); }});
}

std::vector<std::pair<std::string, double>> Trainer::losses_so_far() const {
  const auto names = sum_names();
  const auto samples = std::min(step_in_epoch_ * spec_.batch_size, parts_.train.size()) - skipped_samples_;
  const at::Tensor sums = loss_sums_.to(at::kCPU);
  std::vector<std::pair<std::string, double>> losses;
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (names[i].find("loss") == std::string::npos || samples <= 0) continue;
    const double sum = sums[static_cast<std::int64_t>(i)].item<double>();
    losses.emplace_back(names[i], sum * parts_.world.size() / static_cast<double>(samples));
  }
  return losses;
}

/// Collective; waits for the device.
double Trainer::global_loss(const Batch& batch) const {
  const at::Tensor all = parts_.world.all_gather(step_terms_.unsqueeze(0));
  return all.sum(0)[0].item<double>() / static_cast<double>(batch.shares.global_count);
}

void Trainer::one_pass(const Batch& batch, std::int64_t part) {
  const std::int64_t rows = batch.labels.at(0).size(0);
  for (std::int64_t begin = 0; begin < rows; begin += part) {
    const bool last = begin + part >= rows;
    backward_part(part >= rows ? batch : slice(batch, begin, std::min(begin + part, rows)), last);
  }
}

nn::ForwardContext Trainer::context_of(const Batch& batch) const {
  return {.training = true,
          .seed = spec_.seed,
          .step = static_cast<std::uint64_t>(step_),
          .sample_keys = batch.sample_keys,
          .device_keys = batch.device_keys,
          .device_step = device_step_,
          .recorded = recorded_,
          .ranks = uses_batch_ranks() ? batch_ranks_.get() : nullptr,
          .recompute = spec_.gradient_checkpointing,
          .only_filler = batch.rows.empty()};
}

ModelOutput Trainer::forward(const Batch& batch) const {
  const AutocastGuard autocast(parts_.world.device().type(), spec_.precision);
  return parts_.model.forward(spec_.is_teacher ? batch.teacher : batch.student, context_of(batch));
}

void Trainer::backward_part(const Batch& batch, bool last) {
  auto teacher = teacher_outputs(batch);
  at::Tensor teacher_loss;
  if (parts_.joint_teacher != nullptr) teacher_loss = joint_teacher_loss(batch, teacher);
  const ModelOutput output = forward(batch);
  auto value =
      parts_.objective.evaluate(output, teacher ? &*teacher : nullptr, batch.labels, batch.shares, parts_.world);
  if (last && sync_) sync_->begin_last_backward();
  (teacher_loss.defined() ? value.total_for_backward + teacher_loss : value.total_for_backward).backward();
  count_terms(value.terms, batch.shares);
  count_routes(output, batch.shares);
}

/// The tensors of a student's output that a loss may look at.
struct Trainer::Pass {
  static std::vector<at::Tensor*> tensors(ModelOutput& output) {
    std::vector<at::Tensor*> all{&output.img_proj, &output.txt_proj, &output.energy};
    for (auto& logits : output.logits) all.push_back(&logits);
    return all;
  }

  /// The parts' rows as one output, detached.
  static ModelOutput joined_outputs(std::vector<ModelOutput> outputs) {
    ModelOutput all = outputs.front();
    const auto targets = tensors(all);
    for (std::size_t i = 0; i < targets.size(); ++i) {
      if (!targets[i]->defined()) continue;
      std::vector<at::Tensor> pieces;
      pieces.reserve(outputs.size());
      for (auto& output : outputs) pieces.push_back(*tensors(output)[i]);
      *targets[i] = at::cat(pieces).detach().requires_grad_(true);
    }
    return all;
  }
};

/// A loss that compares samples needs all of them at once, though their activations don't fit: the outputs are computed
/// without activations, the loss gives their gradients, and a second forward pass of each part, with the same keyed
/// random numbers, takes them back to the parameters.
void Trainer::two_passes(const Batch& batch, std::int64_t part) {
  const std::int64_t rows = batch.labels.at(0).size(0);
  std::vector<Batch> pieces;
  for (std::int64_t begin = 0; begin < rows; begin += part)
    pieces.push_back(slice(batch, begin, std::min(begin + part, rows)));
  std::vector<ModelOutput> outputs;
  std::vector<TeacherOutputs> teachers;
  {
    const at::NoGradGuard no_grad;
    for (const auto& piece : pieces) outputs.push_back(forward(piece));
  }
  ModelOutput all = Pass::joined_outputs(std::move(outputs));
  const auto teacher = teacher_outputs(batch);
  Targets targets, leaves;
  if (teacher) {
    targets = parts_.objective.project(*teacher);
    const auto leaf = [](const at::Tensor& x) { return x.defined() ? x.detach().requires_grad_(true) : x; };
    leaves = {leaf(targets.img), leaf(targets.txt)};
  }
  const auto value =
      parts_.objective.evaluate(all, teacher ? &*teacher : nullptr, leaves, batch.labels, batch.shares, parts_.world);
  value.total_for_backward.backward();
  count_terms(value.terms, batch.shares);

  for (std::size_t i = 0; i < pieces.size(); ++i) {
    ModelOutput output = forward(pieces[i]);
    std::vector<at::Tensor> roots, gradients;
    const auto add = [&](const at::Tensor& root, const at::Tensor& gradient) {
      if (!root.defined() || !root.requires_grad() || !gradient.defined()) return;
      roots.push_back(root);
      gradients.push_back(gradient);
    };
    const auto begin = static_cast<std::int64_t>(i) * part;
    const auto of_output = Pass::tensors(output);
    const auto of_all = Pass::tensors(all);
    for (std::size_t k = 0; k < of_all.size(); ++k) {
      const auto& gradient = of_all[k]->defined() ? of_all[k]->grad() : at::Tensor();
      add(*of_output[k], gradient.defined() ? gradient.slice(0, begin, std::min(begin + part, rows)) : gradient);
    }
    if (i + 1 == pieces.size()) {
      if (leaves.img.defined()) add(targets.img, leaves.img.grad());
      if (leaves.txt.defined()) add(targets.txt, leaves.txt.grad());
      if (sync_) sync_->begin_last_backward();
    }
    torch::autograd::backward(roots, gradients);
    count_routes(output, batch.shares);
  }
}

std::optional<TeacherOutputs> Trainer::teacher_outputs(const Batch& batch) const {
  if (parts_.live_teachers.empty()) return batch.teacher_outputs;
  const at::NoGradGuard no_grad;
  const AutocastGuard autocast(parts_.world.device().type(), spec_.precision);
  std::vector<TeacherOutputs> outputs;
  for (auto* teacher : parts_.live_teachers) {
    auto output = teacher->forward(batch.teacher, {.recorded = recorded_});
    outputs.push_back({output.img_raw, output.txt_raw, output.img_proj, output.txt_proj, std::move(output.logits)});
  }
  return joined(std::move(outputs));
}

/// The joint teacher's own loss; `outputs` is set to what it says, for the student, without gradient.
at::Tensor Trainer::joint_teacher_loss(const Batch& batch, std::optional<TeacherOutputs>& outputs) {
  auto context = context_of(batch);
  context.seed ^= kJointTeacherSeed;
  ModelOutput output;
  {
    const AutocastGuard autocast(parts_.world.device().type(), spec_.precision);
    output = parts_.joint_teacher->forward(batch.teacher, context);
  }
  const auto value = parts_.joint_objective->evaluate(output, nullptr, batch.labels, batch.shares, parts_.world);
  outputs = TeacherOutputs{
      output.img_raw.detach(), output.txt_raw.detach(), output.img_proj.detach(), output.txt_proj.detach(), {}};
  for (const auto& logits : output.logits) outputs->logits.push_back(logits.detach());
  loss_sums_.narrow(0, loss_sums_.size(0) - value.terms.size(0), value.terms.size(0))
      .add_(value.terms.to(at::kDouble), static_cast<double>(batch.shares.global_count));
  return value.total_for_backward;
}

void Trainer::count_terms(const at::Tensor& terms, const BatchShares& shares) {
  step_terms_.narrow(0, 0, terms.size(0)).add_(terms.to(at::kDouble), static_cast<double>(shares.global_count));
  loss_sums_.narrow(0, 0, terms.size(0)).add_(terms.to(at::kDouble), static_cast<double>(shares.global_count));
}

void Trainer::count_routes(const ModelOutput& output, const BatchShares& shares) {
  if (route_names_.empty() || shares.rows_of(parts_.world.rank()) == 0) return;
  const auto routes = static_cast<std::int64_t>(route_names_.size());
  const auto first = static_cast<std::int64_t>(parts_.objective.term_names().size());
  loss_sums_.narrow(0, first, routes).add_(nn::one_hot(output.route, routes).sum(0).to(at::kDouble));
  if (output.energy.defined())
    loss_sums_.narrow(0, first + routes, 1).add_(output.energy.detach().sum().to(at::kDouble));
}

at::Tensor Trainer::all_loss_sums() const {
  return parts_.world.all_gather(loss_sums_.unsqueeze(0)).to(at::kCPU);  // [W, terms]
}

void Trainer::finish_epoch() {
  const auto samples = parts_.train.size() - skipped_samples_;
  const at::Tensor means = all_loss_sums().sum(0) / static_cast<double>(samples);
  EpochRecord record{.epoch = epoch_ + 1, .learning_rate = last_lr_, .losses = {}, .dev = {}};
  const auto names = sum_names();
  for (std::size_t i = 0; i < names.size(); ++i)
    record.losses.emplace_back(names[i], means[static_cast<std::int64_t>(i)].item<double>());
  // Every rank sees the same means, so every rank throws.
  if (!std::isfinite(record.losses.front().second)) {
    throw CollectiveError(
        ExitCode::failure,
        fmt::format("{}: the training loss of epoch {} is {}. Lower the learning rate or set training.clip_norm; the "
                    "checkpoint of the epoch before is kept.",
                    spec_.stage, epoch_ + 1, record.losses.front().second));
  }
  if (hooks_.evaluate_dev) {
    parts_.model.eval();
    record.dev = hooks_.evaluate_dev();
  }
  ++epoch_;
  step_in_epoch_ = 0;
  skipped_samples_ = 0;
  loss_sums_.zero_();
  if (parts_.world.rank() == 0) {
    outcome_.history.push_back(epoch_row(record));
    const double score = record.dev.mean_f1();
    if (hooks_.evaluate_dev && (outcome_.best_epoch == 0 || score > outcome_.best_score)) {
      outcome_.best_epoch = epoch_;
      outcome_.best_score = score;
      outcome_.best = snapshot(weights_of(parts_.model));
    }
    if (hooks_.on_epoch) hooks_.on_epoch(record, outcome_.history);
  }
  save_checkpoint();
}

}  // namespace mmkd
