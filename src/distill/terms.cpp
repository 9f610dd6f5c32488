#include "mmkd/distill/terms.h"

#include <fmt/ranges.h>

#include <array>
#include <cmath>

#include "mmkd/base/error.h"
#include "mmkd/nn/one_hot.h"
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

/// `unit` []: what the bandwidths are multiples of; undefined: 1.
at::Tensor mean_kernel(const at::Tensor& x, const at::Tensor& y, std::span<const double> bandwidths,
                       const at::Tensor& unit = {}) {
  auto squared = squared_distances(x, y);
  if (unit.defined()) squared = squared / unit.square();
  auto sum = at::zeros({}, squared.options());
  for (const double h : bandwidths) sum = sum + (squared * (-1.0 / (2.0 * h * h))).exp().mean();
  return sum / static_cast<double>(bandwidths.size());
}

at::Tensor mmd_with(const at::Tensor& x, const at::Tensor& y, std::span<const double> bandwidths,
                    const at::Tensor& unit = {}) {
  return mean_kernel(x, x, bandwidths, unit) + mean_kernel(y, y, bandwidths, unit) -
         2.0 * mean_kernel(x, y, bandwidths, unit);
}

/// Correlation of each row of x with that of y: [N, M], [N, M] -> [N].
at::Tensor row_correlations(const at::Tensor& x, const at::Tensor& y) {
  const auto centred = [](const at::Tensor& t) { return t - t.mean(1, /*keepdim=*/true); };
  const auto norm = [](const at::Tensor& t) { return at::linalg_vector_norm(t, 2, at::IntArrayRef{1}); };
  const auto a = centred(x);
  const auto b = centred(y);
  return (a * b).sum(1) / (norm(a) * norm(b) + 1e-8);
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

at::Tensor decoupled_kl(const at::Tensor& student_logits, const at::Tensor& teacher_logits, const at::Tensor& labels,
                        double temperature, double alpha, double beta) {
  const NoAutocast fp32;
  require_same_shape("decoupled_kl", student_logits, teacher_logits);
  if (student_logits.size(1) < 2)
    return at::zeros({student_logits.size(0)}, student_logits.options().dtype(at::kFloat));
  const auto is_target = nn::one_hot(labels, student_logits.size(1));  // [B, K]
  struct Parts {
    at::Tensor target, others, among;  // log p of the target [B], of all others together [B], of each among them [B, K]
  };
  const auto parts_of = [&](const at::Tensor& logits) {
    const auto log_p = at::log_softmax(logits.to(at::kFloat) / temperature, 1);
    const auto others = at::logsumexp(log_p.masked_fill(is_target, -INFINITY), at::IntArrayRef{1});
    return Parts{log_p.gather(1, labels.unsqueeze(1)).squeeze(1), others, log_p - others.unsqueeze(1)};
  };
  const auto s = parts_of(student_logits);
  const auto t = parts_of(teacher_logits);
  const auto target_part = t.target.exp() * (t.target - s.target) + t.others.exp() * (t.others - s.others);
  const auto among = (t.among.exp() * (t.among - s.among)).masked_fill(is_target, 0.0).sum(1);
  return (alpha * target_part + beta * among) * (temperature * temperature);
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
  return mmd_with(x, y, bandwidths);
}

at::Tensor mmd_scaled(const at::Tensor& student, const at::Tensor& target) {
  const NoAutocast fp32;
  require_same_shape("mmd", student, target);
  static constexpr std::array<double, 5> kMultiples{0.25, 0.5, 1.0, 2.0, 4.0};
  const auto x = student.to(at::kFloat);
  const auto y = target.to(at::kFloat);
  const auto rows = at::cat({x, y}).detach();
  const auto pairs = static_cast<double>(rows.size(0) * (rows.size(0) - 1));
  const auto mean = squared_distances(rows, rows).sqrt().sum() / pairs;
  return mmd_with(x, y, kMultiples, at::where(mean > 0, mean, at::ones_like(mean)));
}

at::Tensor correlation_distance(const at::Tensor& student_logits, const at::Tensor& teacher_logits, double temperature,
                                double beta, double gamma) {
  const NoAutocast fp32;
  require_same_shape("correlation_distance", student_logits, teacher_logits);
  const auto p_student = at::softmax(student_logits.to(at::kFloat) / temperature, 1);
  const auto p_teacher = at::softmax(teacher_logits.to(at::kFloat) / temperature, 1);
  const auto inter = 1.0 - row_correlations(p_student, p_teacher).mean();
  const auto intra = 1.0 - row_correlations(p_student.t(), p_teacher.t()).mean();
  return (beta * inter + gamma * intra) * (temperature * temperature);
}

}  // namespace mmkd::terms
