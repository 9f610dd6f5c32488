#include "mmkd/distill/objective.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "mmkd/base/error.h"
#include "mmkd/config/names.h"
#include "mmkd/distill/terms.h"
#include "mmkd/fusion/fusion.h"
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

/// Compares the student's features with projections of the teacher's.
bool is_projected(LossTermType type) {
  return type == LossTermType::mse || type == LossTermType::crd || type == LossTermType::mmd;
}

bool is_raw(LossTermType type) { return type == LossTermType::rkd_distance || type == LossTermType::rkd_angle; }

template <class Predicate>
bool any_term(const ObjectiveSpec& spec, const Predicate& predicate) {
  return std::any_of(spec.terms.begin(), spec.terms.end(), [&](const LossTerm& term) { return predicate(term.type); });
}

/// What the terms look at, for this rank's rows or for those of all ranks. Tensors that no term needs are undefined.
struct View {
  struct Features {
    at::Tensor student, projected, raw;  // [B, D], [B, D], [B, Dv or Dt] float32
  };
  std::vector<Features> modalities;
  std::vector<at::Tensor> student_logits, teacher_logits;  // [B, K] by task
  at::Tensor energy;                                       // [B]

  /// Every tensor, in a fixed order.
  std::vector<at::Tensor*> tensors() {
    std::vector<at::Tensor*> all;
    for (auto& m : modalities) all.insert(all.end(), {&m.student, &m.projected, &m.raw});
    for (auto& t : student_logits) all.push_back(&t);
    for (auto& t : teacher_logits) all.push_back(&t);
    all.push_back(&energy);
    return all;
  }
};

/// Collective. The same over the global batch: one collective for all tensors.
View gathered(View local, const BatchShares& shares, const World& world) {
  std::vector<at::Tensor> columns;
  std::vector<std::int64_t> widths;
  for (const auto* tensor : local.tensors()) {
    if (!tensor->defined()) continue;
    columns.push_back(tensor->dim() == 1 ? tensor->unsqueeze(1) : *tensor);
    widths.push_back(columns.back().size(1));
  }
  auto parts = gather_rows(world, at::cat(columns, 1), shares).split_with_sizes(widths, 1);
  std::size_t next = 0;
  for (auto* tensor : local.tensors()) {
    if (!tensor->defined()) continue;
    const bool vector = tensor->dim() == 1;
    *tensor = vector ? parts[next].squeeze(1) : parts[next];
    ++next;
  }
  return local;
}

}  // namespace

Objective::Objective(const ObjectiveSpec& spec, std::uint64_t seed)
    : torch::nn::Module("Objective"), spec_(spec), names_{"total"} {
  if (spec.terms.empty()) throw Error("objective: a loss needs at least one term");
  for (const auto& term : spec.terms) {
    std::string name(to_string(term.type));
    for (int number = 2; std::find(names_.begin(), names_.end(), name) != names_.end(); ++number)
      name = fmt::format("{}_{}", to_string(term.type), number);
    names_.push_back(name);
  }
  if (spec.energy) names_.emplace_back("energy");
  check_widths();
  if (!projects()) return;
  const auto add = [&](const char* name, std::int64_t width) {
    auto projection = register_module(name, std::make_shared<nn::Linear>(width, spec.student_width));
    for (auto& parameter : projection->parameters())
      parameter.requires_grad_(spec.projection == ProjectionMode::trained);
    return projection;
  };
  if (uses_image()) proj_img_ = add("proj_img", spec.teacher_img_width);
  if (uses_text()) proj_txt_ = add("proj_txt", spec.teacher_txt_width);
  // Initial values are keyed by name, and models have a proj_txt too.
  nn::initialize(weights_with("objective."), seed);
}

void Objective::check_widths() const {
  if (!compares_features()) return;
  const bool missing = spec_.student_width < 1 || (uses_image() && spec_.teacher_img_width < 1) ||
                       (uses_text() && spec_.teacher_txt_width < 1);
  if (missing) {
    throw Error(
        "objective: a loss that compares features needs their widths; found {} and {} of the teacher, {} of the "
        "student",
        spec_.teacher_img_width, spec_.teacher_txt_width, spec_.student_width);
  }
}

bool Objective::projects() const { return any_term(spec_, is_projected); }

bool Objective::compares_features() const { return projects() || any_term(spec_, is_raw); }

bool Objective::relational() const { return spec_.energy || any_term(spec_, is_relational); }

bool Objective::needs_teacher() const {
  return any_term(spec_, [](LossTermType type) { return type != LossTermType::ce; });
}

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
                relational() ? ", and a loss that compares samples needs all of them at once" : "");
  }
  for (std::size_t i = 0; i < labels.size(); ++i) {
    require_shape("a label tensor", labels[i], {rows});
    require_shape("the student's logits", student.logits[i], {rows, student.logits[i].size(-1)});
  }
  if (spec_.energy) require_shape("the fusion's energy", student.energy, {rows});
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
  if (uses_image()) {
    require_shape("the student's img_proj", student.img_proj, {rows, spec_.student_width});
    require_shape("the teacher's img_raw", teacher->img_raw, {rows, spec_.teacher_img_width});
  }
  if (uses_text()) {
    require_shape("the student's txt_proj", student.txt_proj, {rows, spec_.student_width});
    require_shape("the teacher's txt_raw", teacher->txt_raw, {rows, spec_.teacher_txt_width});
  }
}

Targets Objective::project(const TeacherOutputs& teacher) const {
  const NoAutocast no_autocast;
  const auto projected = [](const std::shared_ptr<nn::Linear>& projection, const at::Tensor& raw) {
    return projection ? projection->forward(fp32(raw).detach()) : at::Tensor();
  };
  return {projected(proj_img_, teacher.img_raw), projected(proj_txt_, teacher.txt_raw)};
}

/// This rank's part of each term for one batch: the parts of all ranks add up to the term over the global batch.
class Objective::Evaluation {
 public:
  Evaluation(const Objective& objective, const ModelOutput& student, const TeacherOutputs* teacher,
             const Targets& targets, std::span<const at::Tensor> labels, const BatchShares& shares, const World& world)
      : labels_(labels), ranks_(world.size()) {
    const bool only_filler = shares.rows_of(world.rank()) == 0;
    row_weight_ = only_filler ? 0.0 : 1.0 / static_cast<double>(shares.global_count);
    fill(objective, student, teacher, targets);
    if (objective.relational()) global_ = gathered(for_relations(objective.spec_), shares, world);
  }

  at::Tensor part_of(const LossTerm& term) const {
    switch (term.type) {
      case LossTermType::ce:
        return over_tasks([&](std::size_t i) { return terms::cross_entropy(local_.student_logits[i], labels_[i]); });
      case LossTermType::kl:
        return over_tasks([&](std::size_t i) {
          return terms::soft_target_kl(local_.student_logits[i], local_.teacher_logits[i], term.T);
        });
      case LossTermType::dkd:
        return over_tasks([&](std::size_t i) {
          return terms::decoupled_kl(local_.student_logits[i], local_.teacher_logits[i], labels_[i], term.T, term.alpha,
                                     term.beta);
        });
      case LossTermType::mse:
        return mse();
      case LossTermType::crd:
        return over_modalities([&](const auto& m) { return terms::info_nce(m.student, m.projected, term.tau); });
      case LossTermType::rkd_distance:
        return over_modalities([](const auto& m) { return terms::rkd_distance(m.student, m.raw); });
      case LossTermType::rkd_angle:
        return over_modalities([](const auto& m) { return terms::rkd_angle(m.student, m.raw); });
      case LossTermType::mmd:
        return over_modalities([&](const auto& m) {
          return term.bandwidth == MmdBandwidth::fixed ? terms::mmd(m.student, m.projected)
                                                       : terms::mmd_scaled(m.student, m.projected);
        });
      case LossTermType::dist:
        return dist(term);
    }
    throw Error("loss term {} is none of the known", static_cast<int>(term.type));
  }

  at::Tensor energy_penalty() const { return mmkd::energy_penalty(global_.energy) * rank_share(); }

 private:
  void fill(const Objective& objective, const ModelOutput& student, const TeacherOutputs* teacher,
            const Targets& targets) {
    for (const auto& logits : student.logits) local_.student_logits.push_back(fp32(logits));
    if (objective.spec_.energy) local_.energy = fp32(student.energy);
    if (teacher == nullptr) return;
    for (const auto& logits : teacher->logits) local_.teacher_logits.push_back(fp32(logits).detach());
    if (!objective.compares_features()) return;
    if (objective.uses_image())
      local_.modalities.push_back({fp32(student.img_proj), targets.img, fp32(teacher->img_raw).detach()});
    if (objective.uses_text())
      local_.modalities.push_back({fp32(student.txt_proj), targets.txt, fp32(teacher->txt_raw).detach()});
  }

  /// What relational terms look at, and nothing else, since all of it travels.
  View for_relations(const ObjectiveSpec& spec) const {
    const auto needs = [&](auto predicate) {
      return any_term(spec, [&](LossTermType type) { return is_relational(type) && predicate(type); });
    };
    View view = local_;
    const bool projected = needs(is_projected), raw = needs(is_raw);
    if (!projected && !raw) view.modalities.clear();
    for (auto& m : view.modalities) {
      if (!projected) m.projected = at::Tensor();
      if (!raw) m.raw = at::Tensor();
    }
    if (!needs([](LossTermType type) { return type == LossTermType::dist; })) {
      view.student_logits.clear();
      view.teacher_logits.clear();
    }
    return view;
  }

  at::Tensor weighted_sum(const at::Tensor& rows) const { return rows.sum() * row_weight_; }  // [B] -> []

  template <class RowValues>
  at::Tensor over_tasks(RowValues row_values) const {
    auto rows = row_values(0);  // [B]
    for (std::size_t task = 1; task < labels_.size(); ++task) rows = rows + row_values(task);
    return weighted_sum(rows);
  }

  at::Tensor mse() const {
    at::Tensor rows;
    for (const auto& m : local_.modalities) {
      const auto values = terms::feature_mse(m.student, m.projected);
      rows = rows.defined() ? rows + values : values;
    }
    return weighted_sum(rows);
  }

  /// Every rank has the whole value, so each answers for 1/W of it.
  double rank_share() const { return 1.0 / static_cast<double>(ranks_); }

  template <class Compare>
  at::Tensor over_modalities(Compare compare) const {
    at::Tensor sum;
    for (const auto& m : global_.modalities) {
      const auto value = compare(m);
      sum = sum.defined() ? sum + value : value;
    }
    return sum * (rank_share() / static_cast<double>(global_.modalities.size()));
  }

  at::Tensor dist(const LossTerm& term) const {
    at::Tensor sum;
    for (std::size_t task = 0; task < global_.student_logits.size(); ++task) {
      const auto value = terms::correlation_distance(global_.student_logits[task], global_.teacher_logits[task], term.T,
                                                     term.beta, term.gamma);
      sum = sum.defined() ? sum + value : value;
    }
    return sum * rank_share();
  }

  std::span<const at::Tensor> labels_;
  std::int64_t ranks_;
  double row_weight_ = 0;
  View local_, global_;  // this rank's rows, all rows
};

ObjectiveValue Objective::evaluate(const ModelOutput& student, const TeacherOutputs* teacher,
                                   std::span<const at::Tensor> labels, const BatchShares& shares,
                                   const World& world) const {
  if (needs_teacher()) check_teacher(student, teacher);
  const Targets targets = projects() ? project(*teacher) : Targets{};
  return evaluate(student, teacher, targets, labels, shares, world);
}

ObjectiveValue Objective::evaluate(const ModelOutput& student, const TeacherOutputs* teacher, const Targets& targets,
                                   std::span<const at::Tensor> labels, const BatchShares& shares,
                                   const World& world) const {
  const NoAutocast no_autocast;
  check_batch(student, labels, shares, world);
  if (needs_teacher()) check_teacher(student, teacher);
  const Evaluation evaluation(*this, student, needs_teacher() ? teacher : nullptr, targets, labels, shares, world);
  at::Tensor total;
  std::vector<at::Tensor> parts;
  const auto add = [&](const at::Tensor& part, double weight) {
    parts.push_back(part);
    total = total.defined() ? total + part * weight : part * weight;
  };
  for (const auto& term : spec_.terms) add(evaluation.part_of(term), term.weight);
  if (spec_.energy) add(evaluation.energy_penalty(), 1.0);
  parts.insert(parts.begin(), total);
  // Gradients are averaged over the ranks, so W times the part makes the mean the gradient of the sum.
  return {total * static_cast<double>(world.size()), at::stack(parts).detach()};
}

}  // namespace mmkd
