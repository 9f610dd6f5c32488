#include "mmkd/nn/packed_attention.h"

#include <ATen/Parallel.h>
#include <fmt/ranges.h>
#include <torch/autograd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <tuple>
#include <vector>

#include "mmkd/base/error.h"
#include "mmkd/base/log.h"
#include "mmkd/kernels/attention.h"
#include "mmkd/nn/cpu_kernels.h"

namespace mmkd::nn {
namespace {

using kernels::Element;

/// Scratch memory of the calling thread.
void* scratch(std::int64_t bytes) {
  struct Free {
    void operator()(void* memory) const { std::free(memory); }
  };
  thread_local std::unique_ptr<void, Free> memory;
  thread_local std::int64_t size = 0;
  if (bytes > size) {
    constexpr std::int64_t kAlignment = 64;
    const std::int64_t rounded = (bytes + kAlignment - 1) / kAlignment * kAlignment;
    memory.reset();
    size = 0;
    memory.reset(std::aligned_alloc(kAlignment, static_cast<std::size_t>(rounded)));
    if (!memory) throw std::bad_alloc();
    size = rounded;
  }
  return memory.get();
}

/// What the heads of all samples have in common.
struct Problem {
  std::int64_t heads, width;  // d of a head
  const std::int64_t* query_offsets;
  const std::int64_t* offsets;
  std::int64_t samples;

  kernels::HeadShape shape(std::int64_t sample) const {
    return {.queries = query_offsets[sample + 1] - query_offsets[sample],
            .keys = offsets[sample + 1] - offsets[sample],
            .width = width,
            .scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(width)))};
  }
  /// body(sample, head, shape, scratch memory) for all, in parallel; each writes to places of its own.
  template <class Body>
  void for_each_head(Body body) const {
    at::parallel_for(0, samples * heads, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        const auto head_shape = shape(i / heads);
        body(i / heads, i % heads, head_shape, scratch(kernels::attention_scratch_bytes(head_shape)));
      }
    });
  }
};

/// The rows of x from `row` on, from column `column` on.
template <class Result>
Result rows_of(const at::Tensor& x, std::int64_t row, std::int64_t column) {
  const auto offset = (row * x.stride(0) + column) * static_cast<std::int64_t>(x.element_size());
  return {static_cast<char*>(x.data_ptr()) + offset, x.stride(0)};
}

struct Operands {
  at::Tensor query, key_value;  // the same tensor for self-attention
  std::int64_t key_column;      // of key_value, where the keys begin; the values follow them
};

kernels::HeadInput input_of(const Operands& in, const Problem& problem, std::int64_t sample, std::int64_t head) {
  const std::int64_t column = head * problem.width, total = problem.heads * problem.width;
  const std::int64_t row = problem.offsets[sample];
  return {
      .query = rows_of<kernels::ConstRows>(in.query, problem.query_offsets[sample], column),
      .key = rows_of<kernels::ConstRows>(in.key_value, row, in.key_column + column),
      .value = rows_of<kernels::ConstRows>(in.key_value, row, in.key_column + total + column),
  };
}

Problem problem_of(const Operands& in, const at::Tensor& query_offsets, const at::Tensor& offsets, std::int64_t heads) {
  const std::int64_t width = (in.key_value.size(1) - in.key_column) / (2 * heads);
  return {.heads = heads,
          .width = width,
          .query_offsets = query_offsets.const_data_ptr<std::int64_t>(),
          .offsets = offsets.const_data_ptr<std::int64_t>(),
          .samples = offsets.size(0) - 1};
}

/// Rows behind the last token (TokenLayout::rows()) are 0: what they meet later is multiplied, not left out.
at::Tensor with_zeros_behind(at::Tensor x, const at::Tensor& offsets) {
  const std::int64_t tokens = offsets.const_data_ptr<std::int64_t>()[offsets.size(0) - 1];
  if (tokens < x.size(0)) x.narrow(0, tokens, x.size(0) - tokens).zero_();
  return x;
}

/// `key_value` undefined: `query` is [T, 3 D] and holds all three.
struct PackedAttention : torch::autograd::Function<PackedAttention> {
  static Operands operands(const at::Tensor& query, const at::Tensor& key_value) {
    return key_value.defined() ? Operands{query, key_value, 0} : Operands{query, query, query.size(1) / 3};
  }

  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& query,
                            const std::optional<at::Tensor>& maybe_key_value, const at::Tensor& query_offsets,
                            const at::Tensor& offsets, std::int64_t heads) {
    const at::Tensor key_value = maybe_key_value.value_or(at::Tensor());
    const Operands in = operands(query, key_value);
    const Problem problem = problem_of(in, query_offsets, offsets, heads);
    const std::int64_t total = problem.heads * problem.width;
    at::Tensor output = with_zeros_behind(at::empty({query.size(0), total}, query.options()), query_offsets);
    const at::Tensor log_sums = at::empty({heads, query.size(0)}, query.options().dtype(at::kFloat));
    auto* logs = log_sums.mutable_data_ptr<float>();
    const Element element = element_of(query);
    problem.for_each_head([&](std::int64_t sample, std::int64_t head, const auto& shape, void* memory) {
      const std::int64_t row = problem.query_offsets[sample];
      kernels::attention_forward(element, shape, input_of(in, problem, sample, head),
                                 rows_of<kernels::Rows>(output, row, head * problem.width),
                                 logs + head * query.size(0) + row, memory);
    });
    context->save_for_backward({query, key_value, output, log_sums, query_offsets, offsets});
    context->saved_data["heads"] = heads;
    return output;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const at::Tensor &query = saved[0], &key_value = saved[1], &output = saved[2];
    const Operands in = operands(query, key_value);
    const Problem problem = problem_of(in, saved[4], saved[5], context->saved_data["heads"].toInt());
    const at::Tensor gradient = gradients[0].to(query.scalar_type()).contiguous();
    // Every row of every column is written by one head.
    const auto like = [](const at::Tensor& x, const at::Tensor& offsets) {
      return x.defined() ? with_zeros_behind(at::empty_like(x, at::MemoryFormat::Contiguous), offsets) : x;
    };
    const Operands out{like(query, saved[4]), like(key_value, saved[5]), in.key_column};
    const at::Tensor& out_keys = key_value.defined() ? out.key_value : out.query;
    const auto* logs = saved[3].const_data_ptr<float>();
    const std::int64_t total = problem.heads * problem.width;
    const Element element = element_of(query);
    problem.for_each_head([&](std::int64_t sample, std::int64_t head, const auto& shape, void* memory) {
      const std::int64_t query_row = problem.query_offsets[sample], row = problem.offsets[sample];
      const std::int64_t column = head * problem.width;
      kernels::attention_backward(
          element, shape, input_of(in, problem, sample, head), rows_of<kernels::ConstRows>(output, query_row, column),
          rows_of<kernels::ConstRows>(gradient, query_row, column), logs + head * query.size(0) + query_row,
          {.query = rows_of<kernels::Rows>(out.query, query_row, column),
           .key = rows_of<kernels::Rows>(out_keys, row, in.key_column + column),
           .value = rows_of<kernels::Rows>(out_keys, row, in.key_column + total + column)},
          memory);
    });
    return {out.query, out.key_value, at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

// ---------------------------------------------------------------- without a kernel of our own

/// q [Tq, H, d], k and v [T, H, d].
struct Heads {
  at::Tensor query, key, value;
};

/// By PyTorch's kernels for samples of different lengths: FlashAttention (Dao et al., arXiv 2205.14135) in bfloat16,
/// memory-efficient attention (Rabe and Staats, arXiv 2112.05682) in float32.
at::Tensor by_cuda_kernels(const Heads& in, const TokenLayout& query_layout, const TokenLayout& layout) {
  const at::Tensor &query_offsets = query_layout.device_offsets(), &offsets = layout.device_offsets();
  // Bounds of a sample's tokens; backward of the second kernel wants them within the tensors.
  const auto longest = [](const TokenLayout& of) { return std::min(of.padded(), of.rows()); };
  if (in.query.scalar_type() == at::kBFloat16) {
    return std::get<0>(at::_flash_attention_forward(in.query, in.key, in.value, query_offsets, offsets,
                                                    longest(query_layout), longest(layout), /*dropout_p=*/0,
                                                    /*is_causal=*/false, /*return_debug_mask=*/false));
  }
  constexpr std::int64_t kNoMask = 0;
  const auto batch_of_one = [](const at::Tensor& x) { return x.unsqueeze(0); };
  return std::get<0>(at::_efficient_attention_forward(batch_of_one(in.query), batch_of_one(in.key),
                                                      batch_of_one(in.value), /*bias=*/std::nullopt, query_offsets,
                                                      offsets, longest(query_layout), longest(layout), /*dropout_p=*/0,
                                                      kNoMask, /*compute_log_sumexp=*/at::GradMode::is_enabled()))
      .squeeze(0);
}

/// On any device: samples are padded for it.
at::Tensor by_padding(const Heads& in, const TokenLayout& query_layout, const TokenLayout& layout) {
  const auto heads_first = [](const at::Tensor& x, const TokenLayout& of) { return of.unpack(x).transpose(1, 2); };
  const at::Tensor lengths = layout.device_offsets().diff().unsqueeze(1);  // [B, 1]
  const at::Tensor is_token = at::arange(layout.padded(), lengths.options()).unsqueeze(0).lt(lengths);
  const at::Tensor output = at::scaled_dot_product_attention(heads_first(in.query, query_layout),
                                                             heads_first(in.key, layout), heads_first(in.value, layout),
                                                             is_token.unsqueeze(1).unsqueeze(1));  // [B, H, N, d]
  return query_layout.pack(output.transpose(1, 2));
}

using Attend = at::Tensor(const Heads&, const TokenLayout&, const TokenLayout&);

/// qkv [T, 3, H, d] -> output and gradient of qkv.
std::array<at::Tensor, 2> both_ways(Attend* attend, const at::Tensor& qkv_in, const TokenLayout& layout) {
  const at::AutoGradMode with_gradients(true);
  const at::Tensor qkv = qkv_in.detach().requires_grad_(true);
  const auto parts = qkv.unbind(1);
  const at::Tensor output = attend({parts[0], parts[1], parts[2]}, layout, layout);
  const at::Tensor upstream = at::linspace(-1, 1, output.numel(), output.options()).view(output.sizes());
  return {output.detach(), torch::autograd::grad({output}, {qkv}, {upstream})[0]};
}

/// Tried on samples of `lengths` tokens.
void try_on(const at::TensorOptions& options, std::int64_t width, const std::vector<std::int64_t>& lengths) {
  constexpr std::int64_t kHeads = 2, kPadded = 20;
  const auto layout = TokenLayout::of_lengths(at::tensor(lengths, at::kLong), kPadded, options.device());
  const std::int64_t count = layout.tokens() * 3 * kHeads * width;
  // Without the device's generator, whose state a run may depend on.
  const at::Tensor qkv =
      at::arange(count, options.dtype(at::kFloat)).mul(0.7).sin().to(options).view({layout.tokens(), 3, kHeads, width});
  const auto packed = both_ways(by_cuda_kernels, qkv, layout), padded = both_ways(by_padding, qkv, layout);
  const double tolerance = qkv.scalar_type() == at::kFloat ? 1e-2 : 5e-2;  // TF32 counts as float32
  for (std::size_t i = 0; i < packed.size(); ++i) {
    const double difference = (packed[i].to(at::kFloat) - padded[i].to(at::kFloat)).abs().max().item<double>();
    const double scale = padded[i].to(at::kFloat).abs().max().item<double>();
    if (!(difference <= tolerance * scale))
      throw Error("its {} differ by {} from those of padded ones, whose largest is {}",
                  i == 0 ? "outputs" : "gradients", difference, scale);
  }
}

/// Whether PyTorch's kernels for packed samples run on this device and agree with attention over padded ones. Said
/// once for each type and width of a head.
bool cuda_kernels_work(const at::TensorOptions& options, std::int64_t width) {
  static std::mutex mutex;
  static std::map<std::tuple<at::DeviceIndex, at::ScalarType, std::int64_t>, bool> known;
  const std::scoped_lock lock(mutex);
  const auto type = at::typeMetaToScalarType(options.dtype());
  const auto [entry, is_new] = known.try_emplace({options.device().index(), type, width}, false);
  if (!is_new) return entry->second;
  try {
    const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::DispatchKey::AutocastCUDA);
    try_on(options, width, {3, 1, 20});
    try_on(options, width, {3, 1});  // fewer tokens than a text is padded to
    entry->second = true;
  } catch (const std::exception& error) {
    log::warn("attention over packed texts is not used on {} ({}, heads of {}): {}", options.device().str(),
              c10::toString(type), width, error.what());
  }
  return entry->second;
}

at::Tensor by_kernels_of_torch(const Heads& in, const TokenLayout& query_layout, const TokenLayout& layout) {
  return (in.query.is_cuda() ? by_cuda_kernels : by_padding)(in, query_layout, layout).flatten(1);
}

void check(bool fits, const at::Tensor& query, const at::Tensor& key_value, std::int64_t heads) {
  if (fits) return;
  throw Error("packed attention: [{}] {} and [{}] with {} heads do not fit the kernel", fmt::join(query.sizes(), ", "),
              c10::toString(query.scalar_type()), fmt::join(key_value.sizes(), ", "), heads);
}

/// Widths that every kernel knows.
bool is_supported(std::int64_t width, std::int64_t heads) {
  constexpr std::int64_t kMultiple = 16;
  return heads >= 1 && width % heads == 0 && width / heads % kMultiple == 0;
}

bool own_kernel_runs(const at::Tensor& x) { return x.is_cpu() && cpu_kernels_run(x.scalar_type()); }

/// Whether tokens of `layout` can be attended to on the device of x.
bool serves(const at::Tensor& x, const TokenLayout& layout) {
  return own_kernel_runs(x) || layout.device_offsets().defined();
}

/// Each row contiguous in memory.
at::Tensor with_plain_rows(const at::Tensor& x) { return x.stride(1) == 1 ? x : x.contiguous(); }

}  // namespace

bool packed_attention_runs(const at::Tensor& x, std::int64_t width, std::int64_t heads) {
  const auto type = compute_type(x);
  if (!is_supported(width, heads)) return false;
  if (x.is_cpu()) return cpu_kernels_run(type);
  const bool has_type = type == at::kFloat || type == at::kBFloat16;
  return has_type && (!x.is_cuda() || cuda_kernels_work(x.options().dtype(type), width / heads));
}

at::Tensor packed_attention(const at::Tensor& query, const TokenLayout& query_layout, const at::Tensor& key_value,
                            const TokenLayout& layout, std::int64_t heads) {
  check(query.dim() == 2 && key_value.dim() == 2 && query.size(0) == query_layout.rows() &&
            key_value.size(0) == layout.rows() && key_value.size(1) == 2 * query.size(1) &&
            query.scalar_type() == key_value.scalar_type() && is_supported(query.size(1), heads) &&
            serves(query, layout),
        query, key_value, heads);
  if (!own_kernel_runs(query)) {
    const auto parts = key_value.unflatten(1, {2, heads, -1}).unbind(1);
    return by_kernels_of_torch({query.unflatten(1, {heads, -1}), parts[0], parts[1]}, query_layout, layout);
  }
  return PackedAttention::apply(with_plain_rows(query), std::optional(with_plain_rows(key_value)),
                                query_layout.offsets(), layout.offsets(), heads);
}

at::Tensor packed_self_attention(const at::Tensor& qkv, const TokenLayout& layout, std::int64_t heads) {
  check(qkv.dim() == 2 && qkv.size(1) % 3 == 0 && qkv.size(0) == layout.rows() &&
            is_supported(qkv.size(1) / 3, heads) && serves(qkv, layout),
        qkv, qkv, heads);
  if (!own_kernel_runs(qkv)) {
    const auto parts = qkv.unflatten(1, {3, heads, -1}).unbind(1);
    return by_kernels_of_torch({parts[0], parts[1], parts[2]}, layout, layout);
  }
  return PackedAttention::apply(with_plain_rows(qkv), std::optional<at::Tensor>(), layout.offsets(), layout.offsets(),
                                heads);
}

}  // namespace mmkd::nn
