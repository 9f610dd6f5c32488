#include "mmkd/data/sampler.h"

#include <algorithm>

#include "mmkd/base/error.h"
#include "mmkd/base/rng.h"

namespace mmkd {

Sampler::Sampler(std::int64_t samples, std::int64_t batch_size, std::int64_t world, std::int64_t rank)
    : samples_(samples), batch_size_(batch_size), world_(world), rank_(rank) {
  if (samples < 1) throw Error("the train split has no samples");
  if (batch_size < world) {
    throw UsageError(
        "data.batch_size is {}, smaller than the number of ranks ({}): some ranks would have nothing to do. The batch "
        "counts "
        "samples over all ranks; raise it, or start fewer ranks.",
        batch_size, world);
  }
}

std::int64_t Sampler::steps_per_epoch() const { return (samples_ + batch_size_ - 1) / batch_size_; }

std::vector<std::int64_t> Sampler::order(std::uint64_t seed, std::int64_t epoch) const {
  const auto permutation = KeyedRng(seed, RngPurpose::shuffle, {static_cast<std::uint64_t>(epoch)})
                               .permutation(static_cast<std::uint32_t>(samples_));
  return {permutation.begin(), permutation.end()};
}

StepPlan Sampler::plan(const std::vector<std::int64_t>& order, std::int64_t step) const {
  const std::int64_t first = step * batch_size_;
  StepPlan plan;
  plan.global_count = std::min(batch_size_, samples_ - first);
  if (step < 0 || plan.global_count < 1) throw Error("step {} of an epoch of {} steps", step, steps_per_epoch());
  const std::int64_t share = plan.global_count / world_;
  const std::int64_t more = plan.global_count % world_;  // this many ranks take one sample more
  plan.max_rows = share + (more > 0 ? 1 : 0);
  const std::int64_t begin = first + rank_ * share + std::min(rank_, more);
  plan.rows.assign(order.begin() + begin, order.begin() + begin + share + (rank_ < more ? 1 : 0));
  return plan;
}

}  // namespace mmkd
