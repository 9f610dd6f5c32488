#pragma once
#include <ATen/ATen.h>

#include <array>
#include <span>

// The terms of the training losses, as pure functions of tensors. Each computes in float32 whatever the type of its
// inputs and of an autocast region around it. Gradients flow into every argument that requires them: detach targets.
// B batch, K classes, D width
namespace mmkd::terms {

// Row-wise terms: one value per sample, so that a batch that is spread unevenly over ranks can be weighted exactly.

/// −log softmax(logits)[label]: [B, K], [B] int64 -> [B].
at::Tensor cross_entropy(const at::Tensor& logits, const at::Tensor& labels);

/// T² · KL(p_teacher ‖ p_student), p = softmax(logits / T): [B, K], [B, K] -> [B]. The factor T² keeps the size of the
/// gradient independent of T (Hinton, Vinyals and Dean, "Distilling the knowledge in a neural network", 2015).
at::Tensor soft_target_kl(const at::Tensor& student_logits, const at::Tensor& teacher_logits, double temperature);

/// T² · (alpha · KL of (target class, all others) + beta · KL among the others): [B, K], [B, K], [B] int64 -> [B].
/// With K = 2 the second part is 0 (Zhao et al., "Decoupled knowledge distillation", 2022).
at::Tensor decoupled_kl(const at::Tensor& student_logits, const at::Tensor& teacher_logits, const at::Tensor& labels,
                        double temperature, double alpha, double beta);

/// Squared difference, averaged over the width: [B, D], [B, D] -> [B].
at::Tensor feature_mse(const at::Tensor& student, const at::Tensor& target);

// Relational terms: [B, D], [B, D'] -> []. They compare every sample with every other, so they must see the whole
// batch. n(x) = x / max(‖x‖, 1e-12) for each row.

/// Contrast of each student row with all targets: cross-entropy of n(student) · n(target)ᵀ / tau against the diagonal,
/// averaged over the rows (InfoNCE; van den Oord et al., 2018). D' = D.
at::Tensor info_nce(const at::Tensor& student, const at::Tensor& target, double tau);

/// smooth_l1(d(n(student)), d(n(target))) with d_ij = sqrt(‖x_i − x_j‖² + 1e-8), averaged over all B² pairs, the
/// diagonal included (after Park et al., "Relational knowledge distillation", 2019). The widths may differ.
at::Tensor rkd_distance(const at::Tensor& student, const at::Tensor& target);

/// smooth_l1 between the cosines of all B² pairs of rows, averaged. The widths may differ.
at::Tensor rkd_angle(const at::Tensor& student, const at::Tensor& target);

/// T² · (beta · (1 − mean correlation of the rows) + gamma · (1 − mean correlation of the columns)) of the two
/// softmax(logits / T), [B, K] each -> []. A row or column without variance counts as uncorrelated (Huang et al.,
/// "Knowledge distillation from a stronger teacher", 2022).
at::Tensor correlation_distance(const at::Tensor& student_logits, const at::Tensor& teacher_logits, double temperature,
                                double beta, double gamma);

/// Bandwidths of the original system's MMD.
inline constexpr std::array<double, 5> kMmdBandwidths{0.2, 0.5, 1.0, 2.0, 5.0};

/// Squared maximum mean discrepancy (biased estimate) with the mean of Gaussian kernels exp(−‖x − y‖² / (2h²)) over the
/// bandwidths h; rows are not normalised (Gretton et al., 2012). D' = D.
at::Tensor mmd(const at::Tensor& student, const at::Tensor& target,
               std::span<const double> bandwidths = kMmdBandwidths);

/// The same with the bandwidths 1/4, 1/2, 1, 2, 4 × the mean distance between different rows of both, which gets no
/// gradient (as Gretton et al.'s median heuristic): fixed ones see nothing on features of another scale.
at::Tensor mmd_scaled(const at::Tensor& student, const at::Tensor& target);

}  // namespace mmkd::terms
