#include "mmkd/dist/flat_tensors.h"

namespace mmkd {

FlatTensors FlatTensors::zeros_like(const std::vector<at::Tensor>& like) {
  constexpr std::int64_t kUnit = 16;  // elements: 64 bytes of float32
  std::vector<std::int64_t> offsets;
  std::int64_t size = 0;
  for (const auto& tensor : like) {
    offsets.push_back(size);
    size += (tensor.numel() + kUnit - 1) / kUnit * kUnit;
  }
  FlatTensors flat;
  flat.block = at::zeros({size}, like.front().options().requires_grad(false));
  for (std::size_t i = 0; i < like.size(); ++i)
    flat.parts.push_back(flat.block.narrow(0, offsets[i], like[i].numel()).view(like[i].sizes()));
  return flat;
}

}  // namespace mmkd
