#include "mmkd/nn/dropout.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/autograd.h>

#include <algorithm>
#include <bit>
#include <memory>
#include <optional>
#include <vector>

#include "dropout_kernel.h"
#include "mmkd/base/error.h"
#include "mmkd/base/hash.h"
#include "mmkd/base/rng.h"

namespace mmkd::nn {
namespace {

// B samples, P positions of each, C = ceil(P / 128) chunks

/// The Philox key of each sample, from those of Record::sample_key.
std::vector<std::uint64_t> philox_keys(const at::Tensor& sample_keys, std::uint64_t layer_id,
                                       const ForwardContext& context) {
  const std::uint64_t prefix =
      combine_keys({context.seed, static_cast<std::uint64_t>(RngPurpose::dropout), context.step, layer_id});
  const at::Tensor samples = sample_keys.contiguous();
  const auto* sample = samples.const_data_ptr<std::int64_t>();
  std::vector<std::uint64_t> keys;
  for (std::int64_t i = 0; i < samples.numel(); ++i)
    keys.push_back(extend_key(prefix, std::bit_cast<std::uint64_t>(sample[i])));
  return keys;
}

struct Product {
  at::Tensor high, low;
};
/// Both halves of 32-bit words (as int64) times a 32-bit constant, by 16-bit halves: no intermediate value overflows.
Product multiply(const at::Tensor& words, std::int64_t constant) {
  const at::Tensor low = words.bitwise_and(0xFFFF) * constant;
  const at::Tensor middle = words.bitwise_right_shift(16) * constant + low.bitwise_right_shift(16);
  return {middle.bitwise_right_shift(16), middle.bitwise_and(0xFFFF).bitwise_left_shift(16) + low.bitwise_and(0xFFFF)};
}

/// Philox4x32-7 of counters {0 … blocks - 1, 0, 0, 0} in tensor operations: 4 words, [B, blocks] int64 each.
std::array<at::Tensor, 4> philox_words(const at::Tensor& keys, std::int64_t blocks) {
  constexpr std::int64_t kWord = 0xFFFFFFFF;
  at::Tensor key0 = keys.bitwise_and(kWord).unsqueeze(1);  // [B, 1]
  at::Tensor key1 = keys.bitwise_right_shift(32).bitwise_and(kWord).unsqueeze(1);
  const at::Tensor counter = at::arange(blocks, keys.options()).unsqueeze(0).expand({keys.size(0), blocks});
  const at::Tensor zeros = at::zeros_like(counter);
  std::array<at::Tensor, 4> words{counter, zeros, zeros, zeros};
  for (int round = 0; round < 7; ++round) {
    const Product a = multiply(words[0], 0xD2511F53);
    const Product b = multiply(words[2], 0xCD9E8D57);
    words = {b.high.bitwise_xor(words[1]).bitwise_xor(key0), b.low, a.high.bitwise_xor(words[3]).bitwise_xor(key1),
             a.low};
    key0 = (key0 + 0x9E3779B9).bitwise_and(kWord);
    key1 = (key1 + 0xBB67AE85).bitwise_and(kWord);
  }
  return words;
}

/// True at kept positions, [B, P] on the device.
at::Tensor keep_mask(const std::vector<std::uint64_t>& philox, std::int64_t positions, const DropoutRate& rate,
                     at::Device device) {
  at::Tensor keys = at::empty({std::ssize(philox)}, at::kLong);
  std::transform(philox.begin(), philox.end(), keys.mutable_data_ptr<std::int64_t>(),
                 [](std::uint64_t key) { return std::bit_cast<std::int64_t>(key); });
  keys = keys.to(device);
  const std::int64_t chunks = (positions + 127) / 128;
  std::vector<at::Tensor> lanes;
  for (const auto& word : philox_words(keys, 16 * chunks)) {
    const at::Tensor blocks = word.view({keys.size(0), chunks, 16});
    lanes.push_back(blocks.bitwise_and(0xFFFF));
    lanes.push_back(blocks.bitwise_right_shift(16));
  }
  const at::Tensor bits = at::stack(lanes, 2).flatten(1).narrow(1, 0, positions);  // from [B, C, 8, 16]
  return bits.ge(static_cast<std::int64_t>(rate.threshold));
}

/// Where each sample's elements end in x; `offsets` [B + 1]: of the rows of packed x, undefined where each has one.
std::vector<std::int64_t> sample_ends(const at::Tensor& x, const at::Tensor& offsets) {
  const std::int64_t row = x.numel() / x.size(0);
  std::vector<std::int64_t> ends;
  const std::int64_t samples = offsets.defined() ? offsets.size(0) - 1 : x.size(0);
  for (std::int64_t s = 0; s < samples; ++s)
    ends.push_back(row * (offsets.defined() ? offsets.const_data_ptr<std::int64_t>()[s + 1] : s + 1));
  return ends;
}

/// Of one call: what its mask is a function of.
struct Mask {
  ForwardContext context;  // without the batch's ranks
  at::Tensor offsets;      // [B + 1] of the rows of packed x, on its device; undefined where each sample has one
  double p;
  std::uint64_t layer_id;

  DropoutRate rate() const { return DropoutRate(p); }
  std::vector<std::uint64_t> keys() const { return philox_keys(context.sample_keys, layer_id, context); }
};

at::Tensor by_tensor_operations(const at::Tensor& x, const Mask& mask) {
  const at::Tensor keep = keep_mask(mask.keys(), x.numel() / x.size(0), mask.rate(), x.device()).view(x.sizes());
  const at::ScalarType wide = x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  return at::where(keep, x.to(wide) * mask.rate().scale, at::zeros({}, x.options().dtype(wide))).to(x.scalar_type());
}

template <class T>
at::Tensor by_kernel(const at::Tensor& x, const Mask& mask) {
  const at::Tensor in = x.contiguous();
  at::Tensor out = at::empty_like(in);
  const auto ends = sample_ends(in, mask.offsets);
  apply_dropout(in.const_data_ptr<T>(), out.mutable_data_ptr<T>(), mask.keys(), ends, mask.rate());
  if (ends.back() < in.numel()) out.flatten().slice(0, ends.back()).zero_();  // rows behind the last token
  return out;
}

/// The operator mmkd::keyed_dropout of the CUDA plug-in (src/cuda/dropout.cpp), where that is loaded.
using DeviceKernel = at::Tensor(const at::Tensor& x, const at::Tensor& sample_keys,
                                const std::optional<at::Tensor>& offsets, const at::Tensor& step, std::int64_t prefix,
                                std::int64_t layer_id, std::int64_t threshold, double scale);
const std::optional<c10::TypedOperatorHandle<DeviceKernel>>& device_kernel() {
  static const auto found = []() -> std::optional<c10::TypedOperatorHandle<DeviceKernel>> {
    const auto schema = c10::Dispatcher::singleton().findSchema({"mmkd::keyed_dropout", ""});
    if (!schema) return std::nullopt;
    return schema->typed<DeviceKernel>();
  }();
  return found;
}

at::Tensor by_device_kernel(const at::Tensor& x, const Mask& mask) {
  const auto& context = mask.context;
  const at::Tensor keys =
      context.device_keys.defined() ? context.device_keys : context.sample_keys.to(x.device(), /*non_blocking=*/true);
  const at::Tensor step = context.device_step.defined()
                              ? context.device_step
                              : at::full({1}, static_cast<std::int64_t>(context.step), x.options().dtype(at::kLong));
  const std::uint64_t prefix = combine_keys({context.seed, static_cast<std::uint64_t>(RngPurpose::dropout)});
  return device_kernel()->call(x.contiguous(), keys.contiguous(),
                               mask.offsets.defined() ? std::optional(mask.offsets) : std::nullopt, step,
                               std::bit_cast<std::int64_t>(prefix), std::bit_cast<std::int64_t>(mask.layer_id),
                               mask.rate().threshold, mask.rate().scale);
}

at::Tensor dropped(const at::Tensor& x, const Mask& mask) {
  if (x.numel() == 0) return x.clone();
  const bool has_kernels = x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16;
  if (x.is_cpu() && has_kernels)
    return x.scalar_type() == at::kFloat ? by_kernel<float>(x, mask) : by_kernel<c10::BFloat16>(x, mask);
  const auto& context = mask.context;
  const bool on_device = !x.is_cpu() && has_kernels && device_kernel().has_value();
  if (context.recorded && !(on_device && context.device_keys.defined() && context.device_step.defined()))
    throw Error("dropout: its keys are made on the host");
  if (on_device) return by_device_kernel(x, mask);
  if (mask.offsets.defined())
    throw Error("dropout: packed tokens are float32 or bfloat16, found {} on {}", c10::toString(x.scalar_type()),
                x.device().str());
  return by_tensor_operations(x, mask);
}

/// Linear in x with a mask that is a function of other things alone, so its backward is the function itself.
struct KeyedDropout : torch::autograd::Function<KeyedDropout> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x,
                            const std::shared_ptr<const Mask>& mask) {
    context->saved_data["mask"] = c10::IValue::make_capsule(c10::make_intrusive<Kept>(mask));
    return dropped(x, *mask);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    const auto mask = context->saved_data["mask"].toCapsule();
    return {KeyedDropout::apply(gradients[0], static_cast<const Kept&>(*mask).mask), at::Tensor()};
  }

 private:
  struct Kept : torch::CustomClassHolder {
    explicit Kept(std::shared_ptr<const Mask> kept) : mask(std::move(kept)) {}
    std::shared_ptr<const Mask> mask;
  };
};

void check_probability(double p) {
  // Written so that a NaN is refused; above the bound the 16-bit threshold would drop everything.
  if (!(p >= 0 && p < 1.0 - 0.5 / 65536.0)) throw UsageError("dropout: a probability in [0, 1) is needed, found {}", p);
}

bool drops(double p, const ForwardContext& context) { return context.training && DropoutRate(p).threshold != 0; }

void check_keys(const ForwardContext& context, std::int64_t samples) {
  const at::Tensor& keys = context.sample_keys;
  if (!keys.defined() || keys.dim() != 1 || keys.scalar_type() != at::kLong || !keys.is_cpu()) {
    throw Error("dropout: training needs the sample keys of the batch, [{}] int64 on the CPU", samples);
  }
  if (samples >= 0 && keys.size(0) != samples) {
    throw Error("dropout: {} samples, but {} sample keys", samples, keys.size(0));
  }
}

at::Tensor apply_mask(const at::Tensor& x, const at::Tensor& offsets, double p, std::uint64_t layer_id,
                      const ForwardContext& context) {
  ForwardContext kept = context;
  kept.ranks = nullptr;
  return KeyedDropout::apply(
      x, std::make_shared<const Mask>(Mask{.context = kept, .offsets = offsets, .p = p, .layer_id = layer_id}));
}

}  // namespace

at::Tensor keyed_dropout(const at::Tensor& x, double p, std::uint64_t layer_id, const ForwardContext& context) {
  check_probability(p);
  if (!drops(p, context)) return x;
  check_keys(context, x.size(0));
  return apply_mask(x, {}, p, layer_id, context);
}

at::Tensor keyed_dropout(const at::Tensor& x, const TokenLayout& layout, double p, std::uint64_t layer_id,
                         const ForwardContext& context) {
  check_probability(p);
  if (!drops(p, context)) return x;
  check_keys(context, layout.samples());
  if (x.size(0) != layout.rows())
    throw Error("dropout: {} rows of tokens, the layout has {}", x.size(0), layout.rows());
  return apply_mask(x, x.is_cpu() ? layout.offsets() : layout.device_offsets(), p, layer_id, context);
}

at::Tensor keyed_dropout_mask(std::int64_t positions, double p, std::uint64_t layer_id, const ForwardContext& context,
                              at::Device device) {
  check_probability(p);
  check_keys(context, -1);
  return keep_mask(philox_keys(context.sample_keys, layer_id, context), positions, DropoutRate(p), device);
}

Dropout::Dropout(double probability) : p(probability) { check_probability(probability); }

at::Tensor Dropout::forward(const at::Tensor& x, const ForwardContext& context) const {
  return keyed_dropout(x, p, layer_id, context);
}

at::Tensor Dropout::forward(const at::Tensor& x, const TokenLayout& layout, const ForwardContext& context) const {
  return keyed_dropout(x, layout, p, layer_id, context);
}

bool Dropout::acts(const ForwardContext& context) const { return drops(p, context); }

void assign_dropout_ids(const torch::nn::Module& root) {
  for (const auto& item : root.named_modules(/*name_prefix=*/std::string(), /*include_self=*/false)) {
    if (auto* dropout = dynamic_cast<Dropout*>(item.value().get())) dropout->layer_id = checksum64(item.key());
  }
}

}  // namespace mmkd::nn
