#pragma once
#include <ATen/ATen.h>
#include <torch/nn/module.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "mmkd/config/config.h"
#include "mmkd/dist/world.h"
#include "mmkd/distill/teacher_outputs.h"
#include "mmkd/models/model_output.h"
#include "mmkd/nn/layers.h"
#include "mmkd/nn/weight_entry.h"

namespace mmkd {

/// Which loss, and the widths of the features that it compares (any value where it compares none).
struct ObjectiveSpec {
  std::vector<LossTerm> terms{LossTerm{}};  ///< ce alone: supervised, no teacher takes part
  ProjectionMode projection = ProjectionMode::trained;
  Modality modality = Modality::both;                         ///< of the student: whose features are compared
  std::int64_t teacher_img_width = 0, teacher_txt_width = 0;  ///< of img_raw, txt_raw
  std::int64_t student_width = 0;                             ///< of img_proj, txt_proj
  bool energy = false;                                        ///< the fusion routes: its energy penalty is added
};

struct ObjectiveValue {
  at::Tensor total_for_backward;  ///< [] its gradient, averaged over the ranks, is that of the global loss
  at::Tensor terms;               ///< [terms] float32, detached: the sum over the ranks is the global value of each
};

/// The teacher's features as the student's are compared with them; undefined where no term does.
struct Targets {
  at::Tensor img, txt;  ///< [B, D] projected to the student's width
};

/// The training loss of the teacher (supervised) or the student (supervised or distilled) over a global batch that is
/// spread over the ranks, any number of tasks: Σ weight · term, and the fusion's energy penalty where it has one.
///
///   ce, kl, dkd      sum over the tasks of batch means
///   dist             sum over the tasks
///   mse              sum over the modalities of batch means: img_proj and txt_proj against the projected teacher's
///   crd, mmd         mean over the modalities, against the projected features
///   rkd_distance, rkd_angle   mean over the modalities, against the teacher's raw features
///
/// The projections are linear, from the teacher's img_raw and txt_raw to the student's fusion width.
///
/// Exact for uneven shares: row-wise terms weigh every row with 1/G, G rows of the global batch, and relational terms
/// are computed by every rank on the gathered batch. A rank without rows runs a filler row, which weighs nothing.
/// Nothing here waits for the device.
class Objective : public torch::nn::Module {
 public:
  /// Projections are initialised as nn.Linear, from numbers keyed by the seed and their names. Throws Error if the loss
  /// compares features and a width is missing, and if there is no term.
  Objective(const ObjectiveSpec& spec, std::uint64_t seed);

  /// Collective if relational(): every rank must call. Logits and features may have any floating type; `teacher` may be
  /// null if needs_teacher() is false; `labels`: [B] int64 for each task. Row-wise losses may be given a part of this
  /// rank's rows (micro-batches: both results then add up over the parts); relational ones need all of them. Throws
  /// Error where shapes do not fit.
  ObjectiveValue evaluate(const ModelOutput& student, const TeacherOutputs* teacher, std::span<const at::Tensor> labels,
                          const BatchShares& shares, const World& world) const;
  /// The same with targets that were projected before.
  ObjectiveValue evaluate(const ModelOutput& student, const TeacherOutputs* teacher, const Targets& targets,
                          std::span<const at::Tensor> labels, const BatchShares& shares, const World& world) const;
  Targets project(const TeacherOutputs& teacher) const;

  /// "total", then the terms, unweighted, a second one of a kind with a number behind its name, then "energy" where the
  /// fusion routes: the order of ObjectiveValue::terms.
  const std::vector<std::string>& term_names() const { return names_; }
  bool needs_teacher() const;
  /// Some term compares samples with one another, so that it must be given the whole batch.
  bool relational() const;
  /// The projections: `proj_img.{weight,bias}` and `proj_txt.{weight,bias}`, [student_width, teacher width] and
  /// [student_width]; empty if the loss uses none.
  std::vector<nn::WeightEntry> named_weights() const;

 private:
  class Evaluation;

  bool uses_image() const { return spec_.modality != Modality::text; }
  bool uses_text() const { return spec_.modality != Modality::image; }
  bool projects() const;
  bool compares_features() const;
  std::vector<nn::WeightEntry> weights_with(const std::string& prefix) const;
  void check_widths() const;
  void check_batch(const ModelOutput& student, std::span<const at::Tensor> labels, const BatchShares& shares,
                   const World& world) const;
  void check_teacher(const ModelOutput& student, const TeacherOutputs* teacher) const;

  ObjectiveSpec spec_;
  std::vector<std::string> names_;
  std::shared_ptr<nn::Linear> proj_img_, proj_txt_;  // null unless some term compares with projected features
};

}  // namespace mmkd
