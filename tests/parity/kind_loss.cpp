#include <torch/autograd.h>

#include "mmkd/base/error.h"
#include "mmkd/comm/mpi_session.h"
#include "mmkd/dist/world.h"
#include "mmkd/distill/objective.h"
#include "tests/parity/tensors.h"

namespace mmkd::parity {
namespace {

const std::vector<std::string> kTasks{"modality", "location"};

LossTerm weighted(LossTermType type, double weight) {
  LossTerm term = default_term(type);
  term.weight = weight;
  return term;
}

/// The terms of the original's losses with the case's constants.
std::vector<LossTerm> terms_of(const nlohmann::json& config) {
  const std::string type = config.at("type");
  LossTerm kl = weighted(LossTermType::kl, config.value("alpha", 0.0));
  kl.T = config.value("temperature", 1.0);
  LossTerm crd = weighted(LossTermType::crd, type == "combined" ? config.value("gamma", 0.0) : 1.0);
  crd.tau = config.value("tau", 1.0);
  LossTerm mmd = weighted(LossTermType::mmd, 1);
  mmd.bandwidth = MmdBandwidth::fixed;
  const LossTerm ce = weighted(LossTermType::ce, config.value("ce_weight", 1.0));
  const LossTerm mse = weighted(LossTermType::mse, config.value("beta", 0.0));
  if (type == "vanilla") return {ce, kl, mse};
  if (type == "combined") return {ce, kl, mse, crd};
  if (type == "crd") return {ce, crd};
  if (type == "rkd") {
    return {ce, weighted(LossTermType::rkd_distance, config.at("distance_weight")),
            weighted(LossTermType::rkd_angle, config.at("angle_weight"))};
  }
  if (type == "mmd") return {ce, mmd};
  throw Error("loss type {} is none of vanilla, combined, crd, rkd, mmd", type);
}

/// Inputs by name; those of the student collect gradients.
class Inputs {
 public:
  explicit Inputs(const Case& c) : tensors_(read_tensors(c, "inputs")) {
    for (auto& [name, tensor] : tensors_) {
      if (name.starts_with("student.")) tensor = tensor.clone().requires_grad_(true);
    }
  }
  ModelOutput student() const {
    return {.img_raw = {},
            .txt_raw = {},
            .img_proj = tensors_.at("student.img_proj"),
            .txt_proj = tensors_.at("student.txt_proj"),
            .logits = per_task("student.logits_"),
            .energy = {},
            .route = {}};
  }
  TeacherOutputs teacher() const {
    return {tensors_.at("teacher.img_raw"), tensors_.at("teacher.txt_raw"), {}, {}, per_task("teacher.logits_")};
  }
  std::vector<at::Tensor> labels() const { return per_task("y_"); }
  void add_gradients(TensorMap& got) const {
    for (const auto& [name, tensor] : tensors_) {
      if (name.starts_with("student.")) got["grad." + name] = tensor.grad();
    }
  }

 private:
  std::vector<at::Tensor> per_task(const std::string& prefix) const {
    std::vector<at::Tensor> result;
    for (const auto& task : kTasks) result.push_back(tensors_.at(prefix + task));
    return result;
  }
  TensorMap tensors_;
};

void load_projections(const Case& c, const Objective& objective) {
  const at::NoGradGuard no_grad;
  const auto weights = read_tensors(c, "weights");
  for (const auto& weight : objective.named_weights()) weight.view.copy_(weights.at(weight.name));
}

TensorMap terms_by_name(const Objective& objective, const at::Tensor& terms) {
  TensorMap result;
  for (std::size_t i = 0; i < objective.term_names().size(); ++i) {
    result[objective.term_names()[i]] = terms[static_cast<std::int64_t>(i)];
  }
  return result;
}

}  // namespace

Verdict check_loss(const Case& c) {
  Verdict verdict;
  const Inputs inputs(c);
  const auto student = inputs.student();
  const auto teacher = inputs.teacher();
  const auto labels = inputs.labels();
  const ObjectiveSpec spec{.terms = terms_of(c.config),
                           .teacher_img_width = teacher.img_raw.size(1),
                           .teacher_txt_width = teacher.txt_raw.size(1),
                           .student_width = student.img_proj.size(1)};
  const Objective objective(spec, 0);
  load_projections(c, objective);
  const MpiSession mpi;
  const auto world = make_world(mpi, at::kCPU);
  const BatchShares shares{.global_count = labels.front().size(0), .world = 1};
  const auto value = objective.evaluate(student, &teacher, labels, shares, *world);
  value.total_for_backward.backward();

  auto got = terms_by_name(objective, value.terms);
  if (c.config.at("type") == "rkd") {
    got["rkd"] = spec.terms[1].weight * got.at("rkd_distance") + spec.terms[2].weight * got.at("rkd_angle");
  }
  inputs.add_gradients(got);
  for (const auto& weight : objective.named_weights()) got["grad." + weight.name] = nn::gradient(weight);
  compare(c, got, read_tensors(c, "expected"), verdict);
  return verdict;
}

}  // namespace mmkd::parity
