#include "mmkd/base/files.h"
#include "mmkd/metrics/classification.h"
#include "tests/parity/arrays.h"
#include "tests/parity/parity.h"

namespace mmkd::parity {
namespace {

std::vector<std::int32_t> labels(const Array& array) { return {array.values.begin(), array.values.end()}; }

}  // namespace

Verdict check_metrics(const Case& c) {
  Verdict verdict;
  const auto inputs = read_arrays(c.folder / "inputs.safetensors");
  const auto want = nlohmann::json::parse(read_file(c.folder / "expected.json"));
  const auto scores = score_classification(labels(inputs.at("y_true")), labels(inputs.at("y_pred")),
                                           inputs.at("prob").values, c.config.at("num_classes").get<std::int64_t>());
  const auto number = [&](const char* key, double got) {
    compare(c, key, {got}, {want.at(key).get<double>()}, verdict);
  };
  number("accuracy", scores.accuracy);
  number("f1_macro", scores.f1_macro);
  number("precision_macro", scores.precision_macro);
  number("recall_macro", scores.recall_macro);
  if (want.at("roc_auc").is_null() != !scores.roc_auc.has_value()) {
    fail(verdict,
         std::string("roc_auc: ") + (scores.roc_auc ? "got a number, want undefined" : "got undefined, want a number"));
  } else if (scores.roc_auc) {
    number("roc_auc", *scores.roc_auc);
  }
  ++verdict.compared;
  if (nlohmann::json(scores.confusion) != want.at("confusion_matrix")) fail(verdict, "confusion_matrix differs");
  return verdict;
}

}  // namespace mmkd::parity
