#include "mmkd/distill/objective.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "mmkd/base/error.h"
#include "mmkd/distill/terms.h"
#include "no_autocast.h"

namespace mmkd {
namespace {

at::Tensor fp32(const at::Tensor& tensor) { return tensor.to(at::kFloat); }

void require_shape(const char* what, const at::Tensor& tensor, at::IntArrayRef expected) {
  if (!tensor.defined()) throw Error("objective: {} is missing", what);
  if (tensor.sizes() != expected) {
    throw Error("objective: {} has shape [{}], [{}] is expected", what, fmt::join(tensor.sizes(), ", "),
                fmt::join(expected, ", "));
  }
}

}  // namespace

std::vector<Objective::WeightedTerm> Objective::terms_of(const ObjectiveSpec& spec) {
  const auto& c = spec.constants;
  std::vector<WeightedTerm> terms{{Term::ce, "ce", c.ce_weight}};
  const auto add = [&](Term term, const char* name, double weight) {
    if (weight != 0.0) terms.push_back({term, name, weight});
  };
  switch (spec.type) {
    case LossType::ce_only:
      return terms;
    case LossType::vanilla:
    case LossType::combined:
      add(Term::kl, "kl", c.alpha);
      add(Term::mse, "mse", c.beta);
      if (spec.type == LossType::combined) add(Term::crd, "crd", c.gamma);
      return terms;
    case LossType::crd:
      add(Term::crd, "crd", 1.0);
      return terms;
    case LossType::rkd:
      add(Term::rkd_distance, "rkd_distance", c.rkd_distance_weight);
      add(Term::rkd_angle, "rkd_angle", c.rkd_angle_weight);
      return terms;
    case LossType::mmd:
      add(Term::mmd, "mmd", 1.0);
      return terms;
  }
  throw Error("loss type {} is none of the known", static_cast<int>(spec.type));
}

template <class... Terms>
bool Objective::uses(Terms... terms) const {
  return std::any_of(terms_.begin(), terms_.end(), [&](const WeightedTerm& t) { return (... || (t.term == terms)); });
}

Objective::Objective(const ObjectiveSpec& spec, std::uint64_t seed)
    : torch::nn::Module("Objective"), spec_(spec), terms_(terms_of(spec)), names_{"total"} {
  for (const auto& term : terms_) names_.emplace_back(term.name);
  if (compares_features() && std::min({spec.teacher_img_width, spec.teacher_txt_width, spec.student_width}) < 1) {
    throw Error(
        "objective: a loss that compares features needs their widths; found {} and {} of the teacher, {} of the "
        "student",
        spec.teacher_img_width, spec.teacher_txt_width, spec.student_width);
  }
  if (!uses(Term::mse, Term::crd, Term::mmd)) return;
  proj_img_ = register_module("proj_img", std::make_shared<nn::Linear>(spec.teacher_img_width, spec.student_width));
  proj_txt_ = register_module("proj_txt", std::make_shared<nn::Linear>(spec.teacher_txt_width, spec.student_width));
  // Initial values are keyed by name, and models have a proj_txt too.
  nn::initialize(weights_with("objective."), seed);
}

bool Objective::compares_features() const { return relational() || uses(Term::mse); }

bool Objective::relational() const { return uses(Term::crd, Term::rkd_distance, Term::rkd_angle, Term::mmd); }

std::vector<nn::WeightEntry> Objective::weights_with(const std::string& prefix) const {
  std::vector<nn::WeightEntry> weights;
  if (proj_img_) proj_img_->collect_weights(prefix + "proj_img.", nn::InitScheme::torch(), weights);
  if (proj_txt_) proj_txt_->collect_weights(prefix + "proj_txt.", nn::InitScheme::torch(), weights);
  return weights;
}

std::vector<nn::WeightEntry> Objective::named_weights() const { return weights_with(""); }

void Objective::check_batch(const ModelOutput& student, std::span<const at::Tensor> labels, const BatchShares& shares,
                            const World& world) const {
  if (shares.world != world.size() || shares.global_count < 1) {
    throw Error("objective: a batch of {} rows over {} ranks in a world of {}", shares.global_count, shares.world,
                world.size());
  }
  if (labels.empty() || student.logits.size() != labels.size()) {
    throw Error("objective: the student has logits of {} tasks, the batch has labels of {}", student.logits.size(),
                labels.size());
  }
  const std::int64_t rows = labels.front().size(0);
  const std::int64_t share = std::max<std::int64_t>(shares.rows_of(world.rank()), 1);
  if (rows > share || rows < 1 || (relational() && rows != share)) {
    throw Error("objective: {} rows were given; rank {} has {} of the batch{}", rows, world.rank(), share,
                relational() ? ", and a loss that compares samples needs all of them at once (no micro-batches)" : "");
  }
  for (std::size_t i = 0; i < labels.size(); ++i) {
    require_shape("a label tensor", labels[i], {rows});
    require_shape("the student's logits", student.logits[i], {rows, student.logits[i].size(-1)});
  }
  if (student.aux_loss.defined()) {
    throw Error("objective: the fusion gives a routing penalty, which no loss here takes");
  }
}

void Objective::check_teacher(const ModelOutput& student, const TeacherOutputs* teacher) const {
  if (teacher == nullptr) {
    throw Error("objective: the loss compares with a teacher, but the batch has no teacher outputs");
  }
  if (teacher->logits.size() != student.logits.size()) {
    throw Error("objective: the teacher has logits of {} tasks, the student of {}", teacher->logits.size(),
                student.logits.size());
  }
  for (std::size_t i = 0; i < student.logits.size(); ++i) {
    require_shape("the teacher's logits", teacher->logits[i], student.logits[i].sizes());
  }
  if (!compares_features()) return;
  const std::int64_t rows = student.logits.front().size(0);
  require_shape("the student's img_proj", student.img_proj, {rows, spec_.student_width});
  require_shape("the student's txt_proj", student.txt_proj, {rows, spec_.student_width});
  require_shape("the teacher's img_raw", teacher->img_raw, {rows, spec_.teacher_img_width});
  require_shape("the teacher's txt_raw", teacher->txt_raw, {rows, spec_.teacher_txt_width});
}

Objective::Features Objective::local_features(const ModelOutput& student, const TeacherOutputs& teacher) const {
  const auto target = [](const at::Tensor& raw, const std::shared_ptr<nn::Linear>& projection) {
    const auto detached = fp32(raw).detach();
    return projection ? projection->forward(detached) : detached;
  };
  return {fp32(student.img_proj), fp32(student.txt_proj), target(teacher.img_raw, proj_img_),
          target(teacher.txt_raw, proj_txt_)};
}

Objective::Features Objective::Features::gathered(const BatchShares& shares, const World& world) const {
  const std::vector<at::Tensor> parts{student_img, student_txt, target_img, target_txt};
  std::vector<std::int64_t> widths;
  for (const auto& part : parts) widths.push_back(part.size(1));
  // One collective for all four.
  const auto split = gather_rows(world, at::cat(parts, 1), shares).split_with_sizes(widths, 1);
  return {split[0], split[1], split[2], split[3]};
}

/// This rank's part of each term for one batch: the parts of all ranks add up to the term over the global batch.
class Objective::Evaluation {
 public:
  Evaluation(const Objective& objective, const ModelOutput& student, const TeacherOutputs* teacher,
             std::span<const at::Tensor> labels, const BatchShares& shares, const World& world)
      : constants_(objective.spec_.constants), student_(student), teacher_(teacher), labels_(labels), world_(world) {
    const bool only_filler = shares.rows_of(world.rank()) == 0;
    row_weight_ = only_filler ? 0.0 : 1.0 / static_cast<double>(shares.global_count);
    if (objective.compares_features()) local_ = objective.local_features(student, *teacher);
    if (objective.relational()) global_ = local_.gathered(shares, world);
  }

  at::Tensor part_of(Term term) const {
    switch (term) {
      case Term::ce:
        return over_tasks([&](std::size_t i) { return terms::cross_entropy(student_.logits[i], labels_[i]); });
      case Term::kl:
        return over_tasks([&](std::size_t i) {
          return terms::soft_target_kl(student_.logits[i], teacher_->logits[i].detach(), constants_.T);
        });
      case Term::mse:
        return weighted_sum(terms::feature_mse(local_.student_img, local_.target_img) +
                            terms::feature_mse(local_.student_txt, local_.target_txt));
      case Term::crd:
        return over_batch([&](const auto& s, const auto& t) { return terms::info_nce(s, t, constants_.tau); });
      case Term::rkd_distance:
        return over_batch([](const auto& s, const auto& t) { return terms::rkd_distance(s, t); });
      case Term::rkd_angle:
        return over_batch([](const auto& s, const auto& t) { return terms::rkd_angle(s, t); });
      case Term::mmd:
        return over_batch([](const auto& s, const auto& t) { return terms::mmd(s, t); });
    }
    throw Error("loss term {} is none of the known", static_cast<int>(term));
  }

 private:
  at::Tensor weighted_sum(const at::Tensor& rows) const { return rows.sum() * row_weight_; }  // [B] -> []

  template <class RowValues>
  at::Tensor over_tasks(RowValues row_values) const {
    auto rows = row_values(0);  // [B]
    for (std::size_t task = 1; task < labels_.size(); ++task) rows = rows + row_values(task);
    return weighted_sum(rows);
  }

  /// Every rank has the whole value, so each answers for 1/W of it.
  template <class Compare>
  at::Tensor over_batch(Compare compare) const {
    const auto both =
        compare(global_.student_img, global_.target_img) + compare(global_.student_txt, global_.target_txt);
    return both * (0.5 / static_cast<double>(world_.size()));
  }

  const LossConstants& constants_;
  const ModelOutput& student_;
  const TeacherOutputs* teacher_;
  std::span<const at::Tensor> labels_;
  const World& world_;
  double row_weight_ = 0;
  Features local_, global_;  // this rank's rows, all rows; undefined where no term compares features
};

ObjectiveValue Objective::evaluate(const ModelOutput& student, const TeacherOutputs* teacher,
                                   std::span<const at::Tensor> labels, const BatchShares& shares,
                                   const World& world) const {
  const NoAutocast no_autocast;
  check_batch(student, labels, shares, world);
  if (needs_teacher()) check_teacher(student, teacher);
  const Evaluation evaluation(*this, student, teacher, labels, shares, world);
  at::Tensor total;
  std::vector<at::Tensor> parts;
  for (const auto& [term, name, weight] : terms_) {
    parts.push_back(evaluation.part_of(term));
    const auto weighted = parts.back() * weight;
    total = total.defined() ? total + weighted : weighted;
  }
  parts.insert(parts.begin(), total);
  // Gradients are averaged over the ranks, so W times the part makes the mean the gradient of the sum.
  return {total * static_cast<double>(world.size()), at::stack(parts).detach()};
}

}  // namespace mmkd
