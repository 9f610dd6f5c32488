#include <torch/autograd.h>

#include "mmkd/base/error.h"
#include "mmkd/comm/mpi_session.h"
#include "mmkd/dist/world.h"
#include "mmkd/distill/objective.h"
#include "tests/parity/tensors.h"

namespace mmkd::parity {
namespace {

const std::vector<std::string> kTasks{"modality", "location"};

LossType type_named(const std::string& name) {
  if (name == "vanilla") return LossType::vanilla;
  if (name == "combined") return LossType::combined;
  if (name == "crd") return LossType::crd;
  if (name == "rkd") return LossType::rkd;
  if (name == "mmd") return LossType::mmd;
  throw Error("loss type {} is none of vanilla, combined, crd, rkd, mmd", name);
}

LossConstants constants_of(const nlohmann::json& config) {
  LossConstants constants;
  constants.ce_weight = config.value("ce_weight", 1.0);
  constants.alpha = config.value("alpha", 0.0);
  constants.beta = config.value("beta", 0.0);
  constants.gamma = config.value("gamma", 0.0);
  constants.T = config.value("temperature", 1.0);
  constants.tau = config.value("tau", 1.0);
  constants.rkd_distance_weight = config.value("distance_weight", 0.0);
  constants.rkd_angle_weight = config.value("angle_weight", 0.0);
  return constants;
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
    return {{}, {}, tensors_.at("student.img_proj"), tensors_.at("student.txt_proj"), per_task("student.logits_"), {}};
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
  const ObjectiveSpec spec{.type = type_named(c.config.at("type")),
                           .constants = constants_of(c.config),
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
  if (spec.type == LossType::rkd) {
    got["rkd"] = spec.constants.rkd_distance_weight * got.at("rkd_distance") +
                 spec.constants.rkd_angle_weight * got.at("rkd_angle");
  }
  inputs.add_gradients(got);
  for (const auto& weight : objective.named_weights()) got["grad." + weight.name] = nn::gradient(weight);
  compare(c, got, read_tensors(c, "expected"), verdict);
  return verdict;
}

}  // namespace mmkd::parity
