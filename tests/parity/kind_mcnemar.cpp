#include "mmkd/base/files.h"
#include "mmkd/metrics/mcnemar.h"
#include "tests/parity/arrays.h"
#include "tests/parity/parity.h"

namespace mmkd::parity {

Verdict check_mcnemar(const Case& c) {
  Verdict verdict;
  const auto inputs = read_arrays(c.folder / "inputs.safetensors");
  const auto want = nlohmann::json::parse(read_file(c.folder / "expected.json"));
  const auto flags = [&](const char* name) {
    const auto& values = inputs.at(name).values;
    return std::vector<bool>(values.begin(), values.end());
  };
  const auto got = mcnemar(flags("correct_a"), flags("correct_b"));
  const auto number = [&](const char* key, double value) {
    compare(c, key, {value}, {want.at(key).get<double>()}, verdict);
  };
  number("only_a", static_cast<double>(got.only_a));
  number("only_b", static_cast<double>(got.only_b));
  number("p_exact", got.p_exact);
  number("chi2_corrected", got.chi2_corrected);
  number("p_chi2", got.p_chi2);
  return verdict;
}

}  // namespace mmkd::parity
