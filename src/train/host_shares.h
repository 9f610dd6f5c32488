#pragma once
#include <ATen/ATen.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "mmkd/dist/shared_tensors.h"
#include "mmkd/dist/world.h"

namespace mmkd {

/// One model for all ranks of a host. Its values and the moments of its optimizer lie in memory that the ranks share,
/// and each of them updates its share of the elements (ZeRO's first stage, Rajbhandari et al. 2020, without messages):
/// instead of a sum that every rank copies into its own gradients, and the same update W times, each rank reads the
/// others' gradients of its share where they lie. Averages are those of Channel, to the bit.
///
/// Elements of most parameters belong to ranks by blocks, contiguously. Of `tables`, whose gradients every rank has
/// already averaged (row_gradients.h), rows do, in turn, since texts use those of some regions more.
class HostShares {
 public:
  static constexpr std::int64_t kBlock = 4096;  // elements

  /// Collective. Null on every rank where there is no such memory, with the reason; with one rank, without one. Throws
  /// Error where the ranks' parameters differ. Parameters: float32. `copies`: in bfloat16 are needed too. The values
  /// are undefined.
  static std::shared_ptr<HostShares> create(const World& world, const std::vector<at::Tensor>& parameters,
                                            const std::vector<at::Tensor>& tables, bool copies, std::string& why_not);

  struct Range {
    std::int64_t begin, end;  // elements
  };
  struct Parameter {
    bool is_table = false;
    at::Tensor value, exp_avg, exp_avg_sq;  ///< everybody's
    at::Tensor gradient;                    ///< this rank's, zeros at first; undefined: of tables
    at::Tensor copy;                        ///< everybody's, in bfloat16; undefined: not of matrices, of tables
    std::vector<Range> mine;                ///< what this rank updates; of a table whole rows
    std::int64_t first_block = 0;           ///< number of its first block among those of all that are no tables
  };
  const std::vector<Parameter>& parameters() const { return parameters_; }

  /// Whether `value` is that of a parameter, and so everybody's.
  bool hold(const at::Tensor& value) const;

  bool owns(std::int64_t block) const { return block >= begin_ && block < end_; }
  /// This rank's gradient becomes the mean over ranks in block `block` of a parameter, from element `begin` on.
  void average(std::size_t parameter, std::int64_t begin, std::int64_t count) const;
  /// [blocks], everybody's: of what the owner says of each block.
  double* sums() const { return sums_.data_ptr<double>(); }

  /// Collective: what was written before is seen by all after it.
  void meet() const { world_.barrier(); }
  const World& world() const { return world_; }

 private:
  HostShares(const World& world, const std::vector<at::Tensor>& parameters, const std::vector<at::Tensor>& tables,
             bool copies, SharedTensors& memory);

  const World& world_;
  std::vector<Parameter> parameters_;
  std::vector<std::vector<at::Tensor>> gradients_;  // of each rank, of each parameter
  at::Tensor sums_;
  std::int64_t begin_ = 0, end_ = 0;  // this rank's blocks
};

}  // namespace mmkd
