#include "mmkd/dist/shared_tensors.h"

#include <c10/util/accumulate.h>

#include <algorithm>
#include <utility>

#include "mmkd/base/error.h"

namespace mmkd {
namespace {

constexpr std::size_t kCacheLineBytes = 64;  // bytes: ranks do not share one
constexpr std::size_t kPageBytes = 4096;     // untouched tensors begin behind the last allocated page

std::size_t round_up(std::size_t bytes, std::size_t unit) { return (bytes + unit - 1) / unit * unit; }

}  // namespace

std::size_t SharedTensors::bytes_of(at::IntArrayRef shape, at::ScalarType type) {
  return round_up(static_cast<std::size_t>(c10::multiply_integers(shape)) * c10::elementSize(type), kCacheLineBytes);
}

SharedTensors::SharedTensors(std::shared_ptr<SharedSegment> segment, const Sizes& sizes)
    : segment_(std::move(segment)),
      allocated_{0, sizes.allocated},
      untouched_{round_up(sizes.allocated, kPageBytes), segment_->size()} {}

std::unique_ptr<SharedTensors> SharedTensors::create(const World& world, const Sizes& sizes, std::string& why_not) {
  if (!world.device().is_cpu()) {
    why_not = "the tensors lie on " + world.device().str();
    return nullptr;
  }
  if (world.mpi().any(world.local_size() != world.size())) {
    why_not = "the ranks run on several hosts";
    return nullptr;
  }
  const std::size_t bytes =
      round_up(sizes.allocated, kPageBytes) + round_up(std::max(sizes.untouched, kCacheLineBytes), kPageBytes);
  auto segment = SharedSegment::create(world.mpi(), bytes, sizes.allocated, why_not);
  if (!segment) return nullptr;
  return std::unique_ptr<SharedTensors>(new SharedTensors(std::move(segment), sizes));
}

at::Tensor SharedTensors::take_from(Part& part, at::IntArrayRef shape, at::ScalarType type) {
  const std::size_t bytes = bytes_of(shape, type);
  if (bytes > part.end - part.next)
    throw Error("shared tensors: {} bytes are left, {} are asked for", part.end - part.next, bytes);
  std::byte* const data = segment_->data() + std::exchange(part.next, part.next + bytes);
  return at::from_blob(
      data, shape, [kept = segment_](void* /*data*/) {}, at::TensorOptions(type));
}

at::Tensor SharedTensors::take(at::IntArrayRef shape, at::ScalarType type) {
  return take_from(allocated_, shape, type);
}

at::Tensor SharedTensors::take_untouched(at::IntArrayRef shape, at::ScalarType type) {
  return take_from(untouched_, shape, type);
}

}  // namespace mmkd
