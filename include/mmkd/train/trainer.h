#pragma once
#include <c10/core/Stream.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "mmkd/config/config.h"
#include "mmkd/dist/device_graph.h"
#include "mmkd/dist/world.h"
#include "mmkd/distill/objective.h"
#include "mmkd/models/multimodal_model.h"
#include "mmkd/nn/context.h"
#include "mmkd/nn/direct_gradients.h"
#include "mmkd/nn/working_weights.h"
#include "mmkd/report/scores.h"
#include "mmkd/train/batch.h"
#include "mmkd/train/checkpoint.h"
#include "mmkd/train/optimizer.h"
#include "mmkd/train/schedule.h"

// The one training loop: teacher and student differ by their objective and by whether batches carry teacher outputs.
namespace mmkd {

class DeviceBatches;
class HostShares;
class StepGraphs;

struct TrainerSpec {
  std::string stage;        ///< for messages and progress: "teacher" or "student"
  bool is_teacher = false;  ///< which input of a batch the model reads
  std::int64_t epochs = 1;
  std::int64_t batch_size = 16;       ///< global
  std::int64_t micro_batch_size = 0;  ///< rows of this rank in one backward pass; 0: all
  bool gradient_checkpointing = false;
  std::int64_t num_workers = 4;
  std::uint64_t seed = 0;
  Precision precision = Precision::fp32;
  Precision gradient_exchange = Precision::fp32;  ///< type in which gradients travel between ranks
  bool host_sharing = true;                       ///< ranks of one host train one model in memory that they share
  double peak_lr = 3e-4;
  double warmup_fraction = 0;
  Schedule schedule = Schedule::constant;
  AdamWOptions optimizer;
  std::int64_t views = 0;       ///< augmented views of a picture that epochs show in turn; 0: none
  double joint_teacher_lr = 0;  ///< peak rate of TrainerParts::joint_teacher
  std::chrono::duration<double> checkpoint_every = std::chrono::minutes(10);  ///< within an epoch; 0: never
  std::int64_t max_bad_steps = 10;                                            ///< that may be skipped
  double spike_factor = 0;                                                    ///< 0: losses of any size are taken
};

/// What a trainer works with; everything is borrowed and must outlive it.
struct TrainerParts {
  const World& world;
  MultimodalModel& model;
  Objective& objective;
  const SampleSource& train;
  AssemblerOptions assembler;  ///< which inputs batches carry, cached teacher outputs
  std::vector<MultimodalModel*> live_teachers =
      {};  ///< compute teacher outputs in each step; empty: cached ones, or none
  /// A teacher that learns in the same loop, from its own objective; the student learns from what it says at that
  /// moment.
  MultimodalModel* joint_teacher = nullptr;
  Objective* joint_objective = nullptr;
  const CheckpointStore* checkpoints = nullptr;  ///< null on ranks other than 0
  /// Steps are recorded and replayed as graphs of the device (step_graphs.h). Empty: they are not. Only with one rank,
  /// on a device other than the CPU, without micro-batches and spike_factor.
  std::function<std::unique_ptr<DeviceGraph>()> make_graph = {};
};

/// One finished step, for displays.
struct StepReport {
  std::int64_t epoch = 0, epochs = 0;  ///< from 1
  std::int64_t step = 0, steps = 0;    ///< of the whole stage
  std::int64_t samples = 0;            ///< of all ranks, since this process began
  double learning_rate = 0;
  double seconds = 0;           ///< of training, since this process began
  double waiting_for_data = 0;  ///< of these
  double in_collectives = 0;    ///< of these; communication goes on beside the backward pass
  /// Mean over the epoch so far of each term, by its name in the metrics, from this rank's rows alone; waits for the
  /// device.
  std::function<std::vector<std::pair<std::string, double>>()> losses;
};

struct TrainerHooks {
  /// Collective. Scores the model on dev; the result counts on rank 0. Unset: no evaluation.
  std::function<SplitScores()> evaluate_dev;
  std::function<void(const StepReport&)> on_step;  ///< on every rank
  /// On rank 0, with the rows of all epochs so far.
  std::function<void(const EpochRecord&, const std::vector<nlohmann::ordered_json>&)> on_epoch;
};

struct TrainOutcome {
  std::vector<nlohmann::ordered_json> history;  ///< rank 0: one flat row per epoch
  std::int64_t best_epoch = 0;                  ///< from 1; by the mean dev F1, the earlier of equals
  double best_score = 0;
  std::vector<NamedTensor> best;  ///< rank 0: the model's parameters and buffers at the best epoch
};

class Trainer {
 public:
  /// Collective: ranks that share a model get the initial parameters of rank 0 here, others in run().
  Trainer(const TrainerParts& parts, const TrainerSpec& spec, TrainerHooks hooks);
  ~Trainer();

  /// Collective. Goes on from the newest checkpoint that verifies, if there is one. Throws CollectiveError if it does
  /// not fit this run.
  void resume();

  /// Collective. Trains to the last epoch, with a checkpoint after each and every `checkpoint_every`. After a stop
  /// signal on any rank all ranks finish the step, write a checkpoint, and throw CollectiveError with
  /// ExitCode::interrupted. A step whose loss or gradients are not finite on any rank, or whose loss is a spike,
  /// changes nothing on any rank and counts in no mean; it is logged with what was wrong, where and for which samples.
  /// After more than `max_bad_steps` of them throws CollectiveError.
  TrainOutcome run();

 private:
  void use_shares(const std::vector<at::Tensor>& parameters);
  void train_epoch();
  void train_step(const Batch& batch, DeviceBatches& batches);
  double compute_step(const Batch& batch);
  struct Pass;
  void one_pass(const Batch& batch, std::int64_t part);
  void two_passes(const Batch& batch, std::int64_t part);
  void backward_part(const Batch& batch, bool last);
  ModelOutput forward(const Batch& batch) const;
  nn::ForwardContext context_of(const Batch& batch) const;
  std::optional<TeacherOutputs> teacher_outputs(const Batch& batch) const;
  at::Tensor joint_teacher_loss(const Batch& batch, std::optional<TeacherOutputs>& outputs);
  std::vector<at::Tensor> buffers() const;
  void count_terms(const at::Tensor& terms, const BatchShares& shares);
  void count_routes(const ModelOutput& output, const BatchShares& shares);
  std::vector<std::string> sum_names() const;
  void report_step() const;
  std::vector<std::pair<std::string, double>> losses_so_far() const;
  bool uses_batch_ranks() const { return parts_.world.size() > 1; }
  void finish_epoch();
  void check_step(const Batch& batch, const at::Tensor& skipped, double loss);
  std::string bad_terms(const Batch& batch) const;
  std::string bad_gradients() const;
  double global_loss(const Batch& batch) const;
  void vote();
  void save_checkpoint();
  at::Tensor all_loss_sums() const;
  std::vector<NamedTensor> model_state() const;
  ScheduleConfig schedule() const;

  TrainerParts parts_;
  TrainerSpec spec_;
  TrainerHooks hooks_;
  Sampler sampler_;
  std::shared_ptr<HostShares> shares_;  // null: each rank has a model of its own
  AdamW optimizer_;
  std::optional<nn::DirectGradients> direct_;
  std::optional<nn::WorkingWeights> working_weights_;  // with bfloat16
  std::optional<GradSync> sync_;                       // without shares
  std::unique_ptr<StepGraphs> graphs_;
  std::optional<c10::Stream> copies_;  // of batches to a device other than the CPU
  bool recorded_ = false;              // what is computed now must not depend on the host
  at::Tensor device_step_;             // step_, [1] int64 on the device, where that is not the CPU
  at::Tensor skipped_;                 // of the last step, AdamW::Step::skipped

  std::int64_t epoch_ = 0;  // from 0
  std::int64_t step_in_epoch_ = 0;
  std::int64_t step_ = 0;     // of the stage
  std::int64_t samples_ = 0;  // since this process began
  double last_lr_ = 0;
  std::chrono::steady_clock::time_point began_;
  double waited_for_data_ = 0, collectives_before_ = 0;  // seconds
  std::unique_ptr<nn::BatchRanks> batch_ranks_;
  std::vector<std::string> route_names_;
  // [sums] float64, sums over the epoch's steps: of G · this rank's contribution to each term, then of samples by route
  // and of their energy, then the joint teacher's terms.
  at::Tensor loss_sums_;
  at::Tensor step_terms_;             // [terms] float64: of this step, G · this rank's contribution
  std::int64_t skipped_samples_ = 0;  // of the epoch
  std::int64_t bad_steps_ = 0;        // of the stage
  double mean_loss_ = 0;              // of the steps so far, running; 0: none yet
  TrainOutcome outcome_;
  std::optional<CheckpointWriter> writer_;  // on rank 0
  std::chrono::steady_clock::time_point saved_ = std::chrono::steady_clock::now();
};

}  // namespace mmkd
