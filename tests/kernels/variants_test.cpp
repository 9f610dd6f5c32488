#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "../../src/kernels/kernel_table.h"

// Float32 kernels for different instructions give the same bits; what they compute is tested where they are used.
namespace mmkd::kernels {
namespace {

std::vector<float> random_values(std::size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (auto& value : values) value = normal(random);
  return values;
}

bool are_same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

class Variants : public testing::Test {
 protected:
  void SetUp() override {
#if defined(__x86_64__)
    const bool runs_both = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                           __builtin_cpu_supports("avx512bf16");
#else
    const bool runs_both = false;
#endif
    if (!runs_both || avx512_kernels == nullptr || avx2_kernels == nullptr)
      GTEST_SKIP() << "this machine does not have both AVX2 and AVX-512 with bfloat16";
  }
};

struct Attention {
  std::vector<float> output, logs, of_query, of_key, of_value;
};

Attention attention(const KernelTable& table, std::int64_t queries, std::int64_t keys, std::int64_t width) {
  const auto n = [&](std::int64_t rows) { return static_cast<std::size_t>(rows * width); };
  const auto q = random_values(n(queries), 1), k = random_values(n(keys), 2), v = random_values(n(keys), 3),
             up = random_values(n(queries), 4);
  Attention result{std::vector<float>(n(queries)), std::vector<float>(static_cast<std::size_t>(queries)),
                   std::vector<float>(n(queries)), std::vector<float>(n(keys)), std::vector<float>(n(keys))};
  const HeadShape shape{queries, keys, width, 1.0F / std::sqrt(static_cast<float>(width))};
  const HeadInput input{{q.data(), width}, {k.data(), width}, {v.data(), width}};
  std::vector<char> scratch(static_cast<std::size_t>(attention_scratch_bytes(shape)) + 64);
  const auto misaligned = reinterpret_cast<std::uintptr_t>(scratch.data()) % 64;
  void* const memory = scratch.data() + (64 - misaligned) % 64;
  table.attention_forward(Element::float32, shape, input, {result.output.data(), width}, result.logs.data(), memory);
  table.attention_backward(
      Element::float32, shape, input, {result.output.data(), width}, {up.data(), width}, result.logs.data(),
      {{result.of_query.data(), width}, {result.of_key.data(), width}, {result.of_value.data(), width}}, memory);
  return result;
}

TEST_F(Variants, OfAttentionGiveTheSameBits) {
  for (const std::int64_t queries : {1, 7, 25, 64}) {
    for (const std::int64_t keys : {1, 16, 30, 65}) {
      for (const std::int64_t width : {16, 48, 64}) {
        const auto a = attention(*avx512_kernels, queries, keys, width),
                   b = attention(*avx2_kernels, queries, keys, width);
        EXPECT_TRUE(are_same_bits(a.output, b.output)) << queries << " " << keys << " " << width;
        EXPECT_TRUE(are_same_bits(a.logs, b.logs)) << queries << " " << keys << " " << width;
        EXPECT_TRUE(are_same_bits(a.of_query, b.of_query)) << queries << " " << keys << " " << width;
        EXPECT_TRUE(are_same_bits(a.of_key, b.of_key)) << queries << " " << keys << " " << width;
        EXPECT_TRUE(are_same_bits(a.of_value, b.of_value)) << queries << " " << keys << " " << width;
      }
    }
  }
}

std::vector<std::vector<float>> norm(const KernelTable& table, std::int64_t rows, std::int64_t width) {
  const auto size = static_cast<std::size_t>(rows * width), columns = static_cast<std::size_t>(width);
  auto residual = random_values(size, 1), branch = random_values(size, 2), weight = random_values(columns, 3),
       bias = random_values(columns, 4), up = random_values(size, 5), of_sum = random_values(size, 6);
  std::vector<float> sum(size), normed(size), mean(static_cast<std::size_t>(rows)), rstd(mean), of_residual(size),
      of_branch(size), of_weight(columns), of_bias(columns);
  const NormParameters parameters{width, 1e-5F, weight.data(), bias.data()};
  table.residual_norm_forward(parameters, rows, residual.data(), {branch.data()}, sum.data(), {normed.data()}, {},
                              mean.data(), rstd.data());
  table.residual_norm_backward(parameters, rows, {sum.data(), mean.data(), rstd.data()},
                               {{up.data()}, {}, of_sum.data()}, of_residual.data(), {of_branch.data()},
                               of_weight.data(), of_bias.data());
  return {sum, normed, mean, rstd, of_residual, of_branch, of_weight, of_bias};
}

TEST_F(Variants, OfNormsGiveTheSameBits) {
  for (const std::int64_t width : {16, 48, 256}) {
    const auto a = norm(*avx512_kernels, 33, width), b = norm(*avx2_kernels, 33, width);
    for (std::size_t i = 0; i < a.size(); ++i) EXPECT_TRUE(are_same_bits(a[i], b[i])) << width << " " << i;
  }
}

TEST_F(Variants, OfGeluGiveTheSameBits) {
  for (const std::size_t count : {1U, 15U, 16U, 1000U}) {
    auto x = random_values(count, 1);
    for (auto& value : x) value *= 4;
    const auto up = random_values(count, 2);
    const auto made = [&](const KernelTable& table) {
      std::vector<float> out(count), again(count), gradient(count);
      const auto n = static_cast<std::int64_t>(count);
      table.gelu_forward(Element::float32, x.data(), out.data(), n);
      table.gelu_backward(Element::float32, x.data(), up.data(), gradient.data(), again.data(), n);
      EXPECT_TRUE(are_same_bits(out, again));
      return std::pair(out, gradient);
    };
    const auto a = made(*avx512_kernels), b = made(*avx2_kernels);
    EXPECT_TRUE(are_same_bits(a.first, b.first)) << count;
    EXPECT_TRUE(are_same_bits(a.second, b.second)) << count;
  }
}

}  // namespace
}  // namespace mmkd::kernels
