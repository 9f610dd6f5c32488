#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "tests/parity/parity.h"

namespace mmkd::parity {

void fail(Verdict& verdict, const std::string& detail) {
  if (verdict.status == Verdict::Status::failed) return;  // the first difference is the one that is shown
  verdict.status = Verdict::Status::failed;
  verdict.detail = detail;
}

void compare(const Case& c, const std::string& name, const std::vector<double>& got, const std::vector<double>& want,
             Verdict& verdict) {
  ++verdict.compared;
  if (got.size() != want.size()) {
    fail(verdict, fmt::format("{}: got {} values, want {}", name, got.size(), want.size()));
    return;
  }
  double scale = 1.0;
  for (const double w : want) scale = std::max(scale, std::abs(w));
  for (std::size_t i = 0; i < want.size(); ++i) {
    const double allowed = c.atol * scale + c.rtol * std::abs(want[i]);
    // Written so that a NaN fails.
    if (got[i] == want[i] || std::abs(got[i] - want[i]) <= allowed) continue;
    const std::string place = want.size() == 1 ? name : fmt::format("{}[flat {}]", name, i);
    fail(verdict, fmt::format("{}: got {:.9g}, want {:.9g}, off by {:.3g}, allowed {:.3g}", place, got[i], want[i],
                              std::abs(got[i] - want[i]), allowed));
    return;
  }
}

}  // namespace mmkd::parity
