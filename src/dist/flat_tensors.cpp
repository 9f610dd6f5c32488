#include "mmkd/dist/flat_tensors.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <new>
#include <utility>

namespace mmkd {
namespace {

constexpr std::int64_t kUnit = 16;  // elements: 64 bytes of float32
constexpr std::size_t kPage = 4096;

std::int64_t padded(std::int64_t elements) { return (elements + kUnit - 1) / kUnit * kUnit; }

std::int64_t padded_size(const std::vector<at::Tensor>& like) {
  std::int64_t size = 0;
  for (const auto& tensor : like) size += padded(tensor.numel());
  return size;
}

FlatTensors views_of(at::Tensor block, const std::vector<at::Tensor>& like) {
  FlatTensors flat{std::move(block), {}};
  std::int64_t offset = 0;
  for (const auto& tensor : like) {
    flat.parts.push_back(flat.block.narrow(0, offset, tensor.numel()).view(tensor.sizes()));
    offset += padded(tensor.numel());
  }
  return flat;
}

/// Pages come when they are written to.
at::Tensor zero_pages(std::int64_t elements, const at::TensorOptions& options) {
  const std::size_t bytes = static_cast<std::size_t>(std::max<std::int64_t>(elements, 1)) * options.dtype().itemsize();
  void* const pages = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (pages == MAP_FAILED) throw std::bad_alloc();
  madvise(pages, bytes, MADV_HUGEPAGE);
  return at::from_blob(
      pages, {elements}, [bytes](void* memory) { munmap(memory, bytes); }, options);
}

/// Of an embedding most rows stay zeros for ever: one that is written to must not bring 2 MB.
void use_small_pages(const at::Tensor& part) {
  constexpr std::int64_t kRows = 4096;
  if (part.dim() != 2 || part.size(0) < kRows) return;
  const auto begin = reinterpret_cast<std::uintptr_t>(part.data_ptr()) / kPage * kPage;
  const auto end = reinterpret_cast<std::uintptr_t>(part.data_ptr()) + part.nbytes();
  madvise(reinterpret_cast<void*>(begin), end - begin, MADV_NOHUGEPAGE);
}

}  // namespace

FlatTensors FlatTensors::zeros_like(const std::vector<at::Tensor>& like) {
  const auto options = like.front().options().requires_grad(false);
  if (!like.front().is_cpu()) return views_of(at::zeros({padded_size(like)}, options), like);
  auto flat = views_of(zero_pages(padded_size(like), options), like);
  for (const auto& part : flat.parts) use_small_pages(part);
  return flat;
}

FlatTensors FlatTensors::copies_of(const std::vector<at::Tensor>& tensors) {
  auto flat = views_of(at::zeros({padded_size(tensors)}, tensors.front().options().requires_grad(false)), tensors);
  const at::NoGradGuard no_grad;
  for (std::size_t i = 0; i < tensors.size(); ++i) flat.parts[i].copy_(tensors[i]);
  return flat;
}

}  // namespace mmkd
