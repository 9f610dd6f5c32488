#pragma once
#include <ATen/ATen.h>

#include <cstddef>
#include <memory>
#include <string>

#include "mmkd/comm/shared_segment.h"
#include "mmkd/dist/world.h"

namespace mmkd {

/// Tensors in memory that all ranks of a host map: what one of them writes, the others see after a barrier.
class SharedTensors {
 public:
  /// How much memory tensors will need; see bytes_of().
  struct Sizes {
    std::size_t allocated = 0;  ///< of take()
    std::size_t untouched = 0;  ///< of take_untouched()
  };
  static std::size_t bytes_of(at::IntArrayRef shape, at::ScalarType type);

  /// Collective. Null on every rank, with the reason in `why_not`, where the world has several hosts, its tensors do
  /// not lie on the CPU, or there is no such memory.
  static std::unique_ptr<SharedTensors> create(const World& world, const Sizes& sizes, std::string& why_not);

  /// The next tensor, of zeros. All ranks must take the same ones in the same order. Memory goes with the last of them.
  /// Throws Error where the sizes did not foresee it.
  at::Tensor take(at::IntArrayRef shape, at::ScalarType type);
  /// One whose pages take memory when they are touched, be it by reading.
  at::Tensor take_untouched(at::IntArrayRef shape, at::ScalarType type);

 private:
  struct Part {
    std::size_t next = 0, end = 0;  // bytes from the segment's begin
  };
  SharedTensors(std::shared_ptr<SharedSegment> segment, const Sizes& sizes);
  at::Tensor take_from(Part& part, at::IntArrayRef shape, at::ScalarType type);

  std::shared_ptr<SharedSegment> segment_;
  Part allocated_, untouched_;
};

}  // namespace mmkd
