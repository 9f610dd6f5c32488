#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

// Scores of single-label classification with scikit-learn's conventions: pure functions on vectors.
namespace mmkd {

/// Precision, recall and F1 of one class; a quotient without a denominator is 0 (zero_division=0).
struct ClassScores {
  double precision = 0, recall = 0, f1 = 0;
  std::int64_t support = 0;  ///< samples whose true class this is
};

struct ClassificationScores {
  double accuracy = 0;
  /// Means over the classes that occur among the true or the predicted labels, as scikit-learn's average="macro".
  double f1_macro = 0, precision_macro = 0, recall_macro = 0;
  /// Two classes: of the probability of class 1. More: mean of one-versus-rest. Unset if a class has no positive or no
  /// negative sample.
  std::optional<double> roc_auc;
  std::vector<std::vector<std::int64_t>> confusion;  ///< [true][predicted]
  std::vector<ClassScores> per_class;
};

/// y_true, y_pred: [N] class numbers in [0, classes). prob: [N, classes] row-major, any monotone score per class.
/// Throws Error for an empty set, sizes that differ, or a class number out of range.
ClassificationScores score_classification(std::span<const std::int32_t> y_true, std::span<const std::int32_t> y_pred,
                                          std::span<const double> prob, std::int64_t classes);

/// Area under the ROC curve of `score` for the samples with `positive` true; ties count one half (Mann–Whitney). Unset
/// without a positive or a negative sample. O(N log N).
std::optional<double> roc_auc(const std::vector<bool>& positive, std::span<const double> score);

/// Index of the largest element of each row of [N, classes]; the first of equals.
std::vector<std::int32_t> argmax_rows(std::span<const double> values, std::int64_t classes);

}  // namespace mmkd
