#include "mmkd/nn/packed_attention.h"

#include <ATen/Parallel.h>
#include <fmt/ranges.h>
#include <torch/autograd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <memory>
#include <optional>

#include "mmkd/base/error.h"
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
    const at::Tensor output = with_zeros_behind(at::empty({query.size(0), total}, query.options()), query_offsets);
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

void check(bool fits, const at::Tensor& query, const at::Tensor& key_value, std::int64_t heads) {
  if (fits) return;
  throw Error("packed attention: [{}] {} and [{}] with {} heads do not fit the kernel", fmt::join(query.sizes(), ", "),
              c10::toString(query.scalar_type()), fmt::join(key_value.sizes(), ", "), heads);
}

bool is_supported(at::ScalarType type, std::int64_t width, std::int64_t heads) {
  constexpr std::int64_t kMultiple = 16;
  if (heads < 1 || width % heads != 0 || width / heads % kMultiple != 0) return false;
  return cpu_kernels_run(type);
}

/// Each row contiguous in memory.
at::Tensor with_plain_rows(const at::Tensor& x) { return x.stride(1) == 1 ? x : x.contiguous(); }

}  // namespace

bool packed_attention_runs(const at::Tensor& x, std::int64_t width, std::int64_t heads) {
  if (!x.is_cpu()) return false;
  return is_supported(compute_type(x), width, heads);
}

at::Tensor packed_attention(const at::Tensor& query, const TokenLayout& query_layout, const at::Tensor& key_value,
                            const TokenLayout& layout, std::int64_t heads) {
  check(query.is_cpu() && query.dim() == 2 && key_value.dim() == 2 && query.size(0) == query_layout.rows() &&
            key_value.size(0) == layout.rows() && key_value.size(1) == 2 * query.size(1) &&
            query.scalar_type() == key_value.scalar_type() && is_supported(query.scalar_type(), query.size(1), heads),
        query, key_value, heads);
  return PackedAttention::apply(with_plain_rows(query), std::optional(with_plain_rows(key_value)),
                                query_layout.offsets(), layout.offsets(), heads);
}

at::Tensor packed_self_attention(const at::Tensor& qkv, const TokenLayout& layout, std::int64_t heads) {
  check(qkv.is_cpu() && qkv.dim() == 2 && qkv.size(1) % 3 == 0 && qkv.size(0) == layout.rows() &&
            is_supported(qkv.scalar_type(), qkv.size(1) / 3, heads),
        qkv, qkv, heads);
  return PackedAttention::apply(with_plain_rows(qkv), std::optional<at::Tensor>(), layout.offsets(), layout.offsets(),
                                heads);
}

}  // namespace mmkd::nn
