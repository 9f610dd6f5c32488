#include "mmkd/metrics/classification.h"

#include <algorithm>
#include <numeric>

#include "mmkd/base/error.h"

namespace mmkd {
namespace {

double ratio(double numerator, double denominator) { return denominator == 0 ? 0.0 : numerator / denominator; }

void require_labels(std::span<const std::int32_t> labels, std::int64_t classes, const char* what) {
  for (std::size_t i = 0; i < labels.size(); ++i) {
    if (labels[i] < 0 || labels[i] >= classes) {
      throw Error("scores: {} of sample {} is class {}, expected 0 to {}", what, i, labels[i], classes - 1);
    }
  }
}

std::optional<double> one_versus_rest_auc(std::span<const std::int32_t> y_true, std::span<const double> prob,
                                          std::int64_t classes) {
  const std::size_t n = y_true.size();
  const auto stride = static_cast<std::size_t>(classes);
  std::vector<bool> positive(n);
  std::vector<double> score(n);
  double sum = 0;
  const std::size_t first = classes == 2 ? 1 : 0;
  for (std::size_t c = first; c < stride; ++c) {
    for (std::size_t i = 0; i < n; ++i) {
      positive[i] = y_true[i] == static_cast<std::int32_t>(c);
      score[i] = prob[i * stride + c];
    }
    const auto area = roc_auc(positive, score);
    if (!area) return std::nullopt;
    sum += *area;
  }
  return sum / static_cast<double>(stride - first);
}

}  // namespace

std::optional<double> roc_auc(const std::vector<bool>& positive, std::span<const double> score) {
  const std::size_t n = score.size();
  if (positive.size() != n) throw Error("ROC AUC: {} labels and {} scores", positive.size(), n);
  std::vector<std::size_t> order(n);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return score[a] < score[b]; });
  double rank_sum = 0;
  std::size_t positives = 0;
  for (std::size_t begin = 0; begin < n;) {
    std::size_t end = begin;
    while (end < n && score[order[end]] == score[order[begin]]) ++end;
    const double mean_rank = 0.5 * static_cast<double>(begin + 1 + end);
    for (std::size_t k = begin; k < end; ++k) {
      if (positive[order[k]]) {
        rank_sum += mean_rank;
        ++positives;
      }
    }
    begin = end;
  }
  const std::size_t negatives = n - positives;
  if (positives == 0 || negatives == 0) return std::nullopt;
  const auto p = static_cast<double>(positives);
  return (rank_sum - p * (p + 1) / 2) / (p * static_cast<double>(negatives));
}

std::vector<std::int32_t> argmax_rows(std::span<const double> values, std::int64_t classes) {
  if (classes < 1 || values.size() % static_cast<std::size_t>(classes) != 0) {
    throw Error("argmax: {} values are no rows of {}", values.size(), classes);
  }
  std::vector<std::int32_t> best;
  best.reserve(values.size() / static_cast<std::size_t>(classes));
  for (auto row = values.begin(); row != values.end(); row += classes) {
    best.push_back(static_cast<std::int32_t>(std::max_element(row, row + classes) - row));
  }
  return best;
}

ClassificationScores score_classification(std::span<const std::int32_t> y_true, std::span<const std::int32_t> y_pred,
                                          std::span<const double> prob, std::int64_t classes) {
  const std::size_t n = y_true.size();
  if (n == 0) throw Error("scores: there are no samples");
  if (y_pred.size() != n || prob.size() != n * static_cast<std::size_t>(classes)) {
    throw Error("scores: {} true labels, {} predictions, {} probabilities for {} classes", n, y_pred.size(),
                prob.size(), classes);
  }
  require_labels(y_true, classes, "the true label");
  require_labels(y_pred, classes, "the prediction");

  const auto k = static_cast<std::size_t>(classes);
  ClassificationScores scores;
  scores.confusion.assign(k, std::vector<std::int64_t>(k, 0));
  for (std::size_t i = 0; i < n; ++i) {
    ++scores.confusion[static_cast<std::size_t>(y_true[i])][static_cast<std::size_t>(y_pred[i])];
  }
  scores.per_class.resize(k);
  std::int64_t right = 0;
  int present = 0;
  for (std::size_t c = 0; c < k; ++c) {
    std::int64_t predicted = 0;
    for (std::size_t t = 0; t < k; ++t) predicted += scores.confusion[t][c];
    auto& one = scores.per_class[c];
    one.support = std::accumulate(scores.confusion[c].begin(), scores.confusion[c].end(), std::int64_t{0});
    const std::int64_t hits = scores.confusion[c][c];
    right += hits;
    one.precision = ratio(static_cast<double>(hits), static_cast<double>(predicted));
    one.recall = ratio(static_cast<double>(hits), static_cast<double>(one.support));
    one.f1 = ratio(2.0 * static_cast<double>(hits), static_cast<double>(predicted + one.support));
    if (predicted + one.support == 0) continue;
    ++present;
    scores.f1_macro += one.f1;
    scores.precision_macro += one.precision;
    scores.recall_macro += one.recall;
  }
  scores.f1_macro /= present;
  scores.precision_macro /= present;
  scores.recall_macro /= present;
  scores.accuracy = static_cast<double>(right) / static_cast<double>(n);
  scores.roc_auc = one_versus_rest_auc(y_true, prob, classes);
  return scores;
}

}  // namespace mmkd
