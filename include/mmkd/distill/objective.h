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

/// Which loss, its constants, and the widths of the features that it compares (any value where it compares none).
struct ObjectiveSpec {
  LossType type = LossType::ce_only;                          ///< ce_only: supervised, no teacher takes part
  LossConstants constants;                                    ///< those that the type does not use are ignored
  std::int64_t teacher_img_width = 0, teacher_txt_width = 0;  ///< of img_raw, txt_raw
  std::int64_t student_width = 0;                             ///< of img_proj, txt_proj
};

struct ObjectiveValue {
  at::Tensor total_for_backward;  ///< [] its gradient, averaged over the ranks, is that of the global loss
  at::Tensor terms;               ///< [terms] float32, detached: the sum over the ranks is the global value of each
};

/// The training loss of the teacher (supervised) or the student (supervised or distilled) over a global batch that is
/// spread over the ranks, any number of tasks:
///
///   ce_only    ce_weight·ce
///   vanilla    ce_weight·ce + alpha·kl + beta·mse
///   combined   ce_weight·ce + alpha·kl + beta·mse + gamma·crd
///   crd, mmd   ce_weight·ce + crd | mmd
///   rkd        ce_weight·ce + rkd_distance_weight·rkd_distance + rkd_angle_weight·rkd_angle
///
/// ce and kl are sums over the tasks of batch means; mse is the sum, the relational terms the mean, over the two
/// modalities. mse, crd and mmd compare the student's img_proj and txt_proj with trained linear projections of the
/// teacher's img_raw and txt_raw to that width; rkd compares with the raw features. A distillation term of weight 0 is
/// not computed.
///
/// Exact for uneven shares: row-wise terms weigh every row with 1/G, G rows of the global batch, and relational terms
/// are computed by every rank on the gathered batch. A rank without rows runs a filler row, which weighs nothing.
/// Nothing here waits for the device.
class Objective : public torch::nn::Module {
 public:
  /// Projections are initialised as nn.Linear, from numbers keyed by the seed and their names. Throws Error if the loss
  /// compares features and a width is missing.
  Objective(const ObjectiveSpec& spec, std::uint64_t seed);

  /// Collective if relational(): every rank must call. Logits and features may have any floating type; `teacher` may be
  /// null if needs_teacher() is false; `labels`: [B] int64 for each task. Row-wise losses may be given a part of this
  /// rank's rows (micro-batches: both results then add up over the parts); relational ones need all of them. Throws
  /// Error where shapes do not fit.
  ObjectiveValue evaluate(const ModelOutput& student, const TeacherOutputs* teacher, std::span<const at::Tensor> labels,
                          const BatchShares& shares, const World& world) const;

  /// "total", "ce", then the distillation terms in use, unweighted: the order of ObjectiveValue::terms.
  const std::vector<std::string>& term_names() const { return names_; }
  bool needs_teacher() const { return terms_.size() > 1; }
  /// Some term compares samples with one another, so that a batch cannot be cut into micro-batches.
  bool relational() const;
  /// The projections: `proj_img.{weight,bias}` and `proj_txt.{weight,bias}`, [student_width, teacher width] and
  /// [student_width]; empty if the loss uses none.
  std::vector<nn::WeightEntry> named_weights() const;

 private:
  enum class Term { ce, kl, mse, crd, rkd_distance, rkd_angle, mmd };
  struct WeightedTerm {
    Term term;
    const char* name;
    double weight;
  };
  /// What is compared, for each modality: student features and their targets, [B, D] and [B, D or Dv], float32.
  struct Features {
    at::Tensor student_img, student_txt, target_img, target_txt;
    Features gathered(const BatchShares& shares, const World& world) const;
  };

  class Evaluation;

  static std::vector<WeightedTerm> terms_of(const ObjectiveSpec& spec);
  template <class... Terms>
  bool uses(Terms... terms) const;
  bool compares_features() const;
  std::vector<nn::WeightEntry> weights_with(const std::string& prefix) const;
  void check_batch(const ModelOutput& student, std::span<const at::Tensor> labels, const BatchShares& shares,
                   const World& world) const;
  void check_teacher(const ModelOutput& student, const TeacherOutputs* teacher) const;
  Features local_features(const ModelOutput& student, const TeacherOutputs& teacher) const;

  ObjectiveSpec spec_;
  std::vector<WeightedTerm> terms_;
  std::vector<std::string> names_;
  std::shared_ptr<nn::Linear> proj_img_, proj_txt_;  // null unless some term compares with projected features
};

}  // namespace mmkd
