#pragma once
#include <cstdint>
#include <vector>

namespace mmkd {

/// The samples of one step on one rank.
struct StepPlan {
  std::vector<std::int64_t> rows;  ///< sample numbers of this rank; may be empty in the last step of an epoch
  std::int64_t global_count = 0;   ///< samples of the step over all ranks
  std::int64_t max_rows = 0;       ///< largest share of any rank: what gathers are padded to
};

/// Order and division of samples as a pure function of (seed, epoch, world, rank): no state, so that resuming is
/// starting at another step.
class Sampler {
 public:
  /// Throws Error if batch_size < world (a rank would have nothing to do in every step).
  Sampler(std::int64_t samples, std::int64_t batch_size, std::int64_t world, std::int64_t rank);
  std::int64_t steps_per_epoch() const;
  /// The epoch's order over all ranks: the same for every world size.
  std::vector<std::int64_t> order(std::uint64_t seed, std::int64_t epoch) const;
  /// Contiguous shares of the global batch, sizes differing by at most one (the first ranks get more).
  StepPlan plan(const std::vector<std::int64_t>& order, std::int64_t step) const;

 private:
  std::int64_t samples_, batch_size_, world_, rank_;
};

}  // namespace mmkd
