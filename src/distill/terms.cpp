#include "mmkd/distill/terms.h"

#include <fmt/ranges.h>

#include "mmkd/base/error.h"
#include "no_autocast.h"

namespace mmkd::terms {
namespace {

void require_same_shape(const char* term, const at::Tensor& student, const at::Tensor& target) {
  if (student.sizes() != target.sizes()) {
    throw Error("{}: student and target must have the same shape; found {} and {}", term,
                fmt::join(student.sizes(), "x"), fmt::join(target.sizes(), "x"));
  }
}

void require_same_rows(const char* term, const at::Tensor& student, const at::Tensor& target) {
  if (student.dim() != 2 || target.dim() != 2 || student.size(0) != target.size(0)) {
    throw Error("{}: two matrices with the same number of rows are needed; found {} and {}", term,
                fmt::join(student.sizes(), "x"), fmt::join(target.sizes(), "x"));
  }
}

at::Tensor normalize_rows(const at::Tensor& x) {
  return x / at::linalg_vector_norm(x, 2, at::IntArrayRef{1}, /*keepdim=*/true).clamp_min(1e-12);
}

// Sums of squared differences rather than a Gram matrix: there, nearly equal rows cancel and their gradients are noise.
at::Tensor squared_distances(const at::Tensor& x, const at::Tensor& y) {
  constexpr std::int64_t kWithoutMatrixProduct = 2;
  return at::cdist(x, y, 2.0, kWithoutMatrixProduct).square();  // [B, B']
}

at::Tensor mean_kernel(const at::Tensor& x, const at::Tensor& y, std::span<const double> bandwidths) {
  const auto squared = squared_distances(x, y);
  auto sum = at::zeros({}, squared.options());
  for (const double h : bandwidths) sum = sum + (squared * (-1.0 / (2.0 * h * h))).exp().mean();
  return sum / static_cast<double>(bandwidths.size());
}

}  // namespace

at::Tensor cross_entropy(const at::Tensor& logits, const at::Tensor& labels) {
  const NoAutocast fp32;
  return at::cross_entropy_loss(logits.to(at::kFloat), labels, /*weight=*/{}, at::Reduction::None);
}

at::Tensor soft_target_kl(const at::Tensor& student_logits, const at::Tensor& teacher_logits, double temperature) {
  const NoAutocast fp32;
  require_same_shape("soft_target_kl", student_logits, teacher_logits);
  const auto log_student = at::log_softmax(student_logits.to(at::kFloat) / temperature, 1);
  const auto log_teacher = at::log_softmax(teacher_logits.to(at::kFloat) / temperature, 1);
  const auto pointwise = at::kl_div(log_student, log_teacher, at::Reduction::None, /*log_target=*/true);  // [B, K]
  return pointwise.sum(1) * (temperature * temperature);
}

at::Tensor feature_mse(const at::Tensor& student, const at::Tensor& target) {
  const NoAutocast fp32;
  require_same_shape("feature_mse", student, target);
  return (student.to(at::kFloat) - target.to(at::kFloat)).square().mean(1);
}

at::Tensor info_nce(const at::Tensor& student, const at::Tensor& target, double tau) {
  const NoAutocast fp32;
  require_same_shape("info_nce", student, target);
  const auto x = normalize_rows(student.to(at::kFloat));
  const auto y = normalize_rows(target.to(at::kFloat));
  const auto similarity = at::mm(x, y.t()) / tau;  // [B, B]
  return at::cross_entropy_loss(similarity, at::arange(x.size(0), x.options().dtype(at::kLong)));
}

at::Tensor rkd_distance(const at::Tensor& student, const at::Tensor& target) {
  const NoAutocast fp32;
  require_same_rows("rkd_distance", student, target);
  const auto distances = [](const at::Tensor& rows) {
    const auto x = normalize_rows(rows.to(at::kFloat));
    return (squared_distances(x, x) + 1e-8).sqrt();  // [B, B]
  };
  return at::smooth_l1_loss(distances(student), distances(target));
}

at::Tensor rkd_angle(const at::Tensor& student, const at::Tensor& target) {
  const NoAutocast fp32;
  require_same_rows("rkd_angle", student, target);
  const auto cosines = [](const at::Tensor& rows) {
    const auto x = normalize_rows(rows.to(at::kFloat));
    return at::mm(x, x.t());  // [B, B]
  };
  return at::smooth_l1_loss(cosines(student), cosines(target));
}

at::Tensor mmd(const at::Tensor& student, const at::Tensor& target, std::span<const double> bandwidths) {
  const NoAutocast fp32;
  require_same_shape("mmd", student, target);
  if (bandwidths.empty()) throw Error("mmd: at least one bandwidth is needed");
  const auto x = student.to(at::kFloat);
  const auto y = target.to(at::kFloat);
  return mean_kernel(x, x, bandwidths) + mean_kernel(y, y, bandwidths) - 2.0 * mean_kernel(x, y, bandwidths);
}

}  // namespace mmkd::terms
