#include "mmkd/nn/noise.h"

#include <bit>

#include "mmkd/base/error.h"

namespace mmkd::nn {

at::Tensor keyed_uniform(std::int64_t columns, RngPurpose purpose, std::uint64_t layer_id,
                         const ForwardContext& context, at::Device device) {
  const at::Tensor& keys = context.sample_keys;
  if (!keys.defined() || keys.dim() != 1 || keys.scalar_type() != at::kLong || !keys.is_cpu())
    throw Error("random numbers of a layer need the sample keys of the batch, [B] int64 on the CPU");
  if (context.recorded) throw Error("random numbers of a fusion's routes are made on the host");
  at::Tensor values = at::empty({keys.size(0), columns}, at::kFloat);
  auto* out = values.mutable_data_ptr<float>();
  const at::Tensor samples = keys.contiguous();
  const auto* in = samples.const_data_ptr<std::int64_t>();
  for (std::int64_t i = 0; i < keys.size(0); ++i) {
    KeyedRng rng(context.seed, purpose, {context.step, layer_id, std::bit_cast<std::uint64_t>(in[i])});
    // 24 bits and a half: exact in float32, and neither 0 nor 1.
    for (std::int64_t c = 0; c < columns; ++c) *out++ = (static_cast<float>(rng.next_u32() >> 9) + 0.5F) * 0x1.0p-23F;
  }
  return values.to(device);
}

at::Tensor keyed_gumbel(std::int64_t columns, RngPurpose purpose, std::uint64_t layer_id, const ForwardContext& context,
                        at::Device device) {
  return -(-keyed_uniform(columns, purpose, layer_id, context, device).log()).log();
}

}  // namespace mmkd::nn
