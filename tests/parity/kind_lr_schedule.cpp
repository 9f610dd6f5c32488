#include "mmkd/base/error.h"
#include "mmkd/base/files.h"
#include "mmkd/train/schedule.h"
#include "tests/parity/parity.h"

namespace mmkd::parity {
namespace {

Schedule schedule_named(const std::string& name) {
  if (name == "constant") return Schedule::constant;
  if (name == "linear") return Schedule::linear;
  if (name == "cosine") return Schedule::cosine;
  throw Error("schedule {} is none of constant, linear, cosine", name);
}

}  // namespace

Verdict check_lr_schedule(const Case& c) {
  Verdict verdict;
  const ScheduleConfig config{.schedule = schedule_named(c.config.at("schedule")),
                              .peak_lr = c.config.at("base_lr"),
                              .warmup_steps = c.config.at("warmup_steps"),
                              .total_steps = c.config.at("total_steps")};
  const auto expected = nlohmann::json::parse(read_file(c.folder / "expected.json"));
  const auto want = expected.at("lr").get<std::vector<double>>();
  std::vector<double> got;
  for (std::int64_t step = 0; step < c.config.at("rows").get<std::int64_t>(); ++step) {
    got.push_back(learning_rate(config, step));
  }
  compare(c, "lr", got, want, verdict);
  return verdict;
}

}  // namespace mmkd::parity
