#include "mmkd/comm/ordered_reduce.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "mmkd/base/error.h"

namespace mmkd {
namespace {

template <class T>
std::vector<T> reduce(Reduction reduction, ElementType type, const std::vector<std::vector<T>>& ranks) {
  std::vector<const std::byte*> inputs;
  for (const auto& values : ranks) inputs.push_back(reinterpret_cast<const std::byte*>(values.data()));
  std::vector<T> output(ranks.front().size());
  reduce_in_order(reduction, type, inputs, reinterpret_cast<std::byte*>(output.data()), output.size());
  return output;
}

template <class T>
void expect_arithmetic(ElementType type) {
  const std::vector<std::vector<T>> ranks{{1, 6}, {2, 3}, {3, 9}};
  EXPECT_EQ(reduce<T>(Reduction::sum, type, ranks), (std::vector<T>{6, 18}));
  EXPECT_EQ(reduce<T>(Reduction::average, type, ranks), (std::vector<T>{2, 6}));
  EXPECT_EQ(reduce<T>(Reduction::product, type, ranks), (std::vector<T>{6, 162}));
  EXPECT_EQ(reduce<T>(Reduction::min, type, ranks), (std::vector<T>{1, 3}));
  EXPECT_EQ(reduce<T>(Reduction::max, type, ranks), (std::vector<T>{3, 9}));
}

TEST(ReduceInOrder, DoesTheArithmeticOfEachNumberType) {
  expect_arithmetic<float>(ElementType::f32);
  expect_arithmetic<double>(ElementType::f64);
  expect_arithmetic<std::int64_t>(ElementType::i64);
  expect_arithmetic<std::int32_t>(ElementType::i32);
  expect_arithmetic<std::uint8_t>(ElementType::u8);
}

TEST(ReduceInOrder, AddsInTheOrderOfTheInputs) {
  // (1e8 + 1) loses the 1 in binary32; (1e8 - 1e8) + 1 keeps it.
  EXPECT_EQ(reduce<float>(Reduction::sum, ElementType::f32, {{1e8F}, {1.0F}, {-1e8F}})[0], 0.0F);
  EXPECT_EQ(reduce<float>(Reduction::sum, ElementType::f32, {{1e8F}, {-1e8F}, {1.0F}})[0], 1.0F);
}

TEST(ReduceInOrder, AccumulatesBfloat16InBinary32AndRoundsOnce) {
  constexpr std::uint16_t one = 0x3F80, half_unit = 0x3B80;  // 2^-8: half of 1's last place
  // Rounded after each addition the ties would fall back to 1 every time; the true sum is 1 + 3 * 2^-8.
  EXPECT_EQ(reduce<std::uint16_t>(Reduction::sum, ElementType::bf16, {{one}, {half_unit}, {half_unit}, {half_unit}})[0],
            0x3F82);  // 1 + 2 * 2^-7, the even neighbour of 1 + 1.5 * 2^-7
}

TEST(ReduceInOrder, RoundsHalfPrecisionTiesToEven) {
  constexpr std::uint16_t one = 0x3C00, half_unit = 0x1000;  // 2^-11
  EXPECT_EQ(reduce<std::uint16_t>(Reduction::sum, ElementType::f16, {{one}, {half_unit}})[0], one);
  EXPECT_EQ(reduce<std::uint16_t>(Reduction::sum, ElementType::f16, {{0x3C01}, {half_unit}})[0], 0x3C02);
}

TEST(ReduceInOrder, OverflowsHalfPrecisionToInfinity) {
  constexpr std::uint16_t largest = 0x7BFF, infinity = 0x7C00;
  EXPECT_EQ(reduce<std::uint16_t>(Reduction::sum, ElementType::f16, {{largest}, {largest}})[0], infinity);
}

TEST(ReduceInOrder, BooleansAreAnyAndAll) {
  const std::vector<std::vector<std::uint8_t>> ranks{{0, 1, 1}, {0, 0, 1}};
  using Bits = std::vector<std::uint8_t>;
  EXPECT_EQ(reduce(Reduction::sum, ElementType::boolean, ranks), (Bits{0, 1, 1}));
  EXPECT_EQ(reduce(Reduction::max, ElementType::boolean, ranks), (Bits{0, 1, 1}));
  EXPECT_EQ(reduce(Reduction::product, ElementType::boolean, ranks), (Bits{0, 0, 1}));
  EXPECT_EQ(reduce(Reduction::min, ElementType::boolean, ranks), (Bits{0, 0, 1}));
  EXPECT_THROW(reduce(Reduction::average, ElementType::boolean, ranks), Error);
}

TEST(ReduceInOrder, IntegerSumsWrap) {
  constexpr auto largest = std::numeric_limits<std::int32_t>::max();
  EXPECT_EQ(reduce<std::int32_t>(Reduction::sum, ElementType::i32, {{largest}, {1}})[0],
            std::numeric_limits<std::int32_t>::min());
  EXPECT_EQ(reduce<std::uint8_t>(Reduction::sum, ElementType::u8, {{200}, {100}})[0], 44);
}

TEST(ReduceInOrder, NotANumberWinsMinAndMaxFromEitherSide) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const auto reduction : {Reduction::min, Reduction::max}) {
    const auto result = reduce<float>(reduction, ElementType::f32, {{nan, 1.0F}, {1.0F, nan}});
    EXPECT_TRUE(std::isnan(result[0]));
    EXPECT_TRUE(std::isnan(result[1]));
  }
}

TEST(ReduceInOrder, MayWriteOverAnInput) {
  std::vector<double> first(5000), second(5000);
  for (std::size_t i = 0; i < first.size(); ++i) {
    first[i] = static_cast<double>(i);
    second[i] = 0.5 * static_cast<double>(i);
  }
  const std::vector<const std::byte*> inputs{reinterpret_cast<const std::byte*>(first.data()),
                                             reinterpret_cast<const std::byte*>(second.data())};
  reduce_in_order(Reduction::sum, ElementType::f64, inputs, reinterpret_cast<std::byte*>(second.data()), 5000);
  for (std::size_t i = 0; i < second.size(); ++i) ASSERT_EQ(second[i], 1.5 * static_cast<double>(i));
}

TEST(ReduceInOrder, NeedsAnInput) {
  float output = 0.0F;
  EXPECT_THROW(reduce_in_order(Reduction::sum, ElementType::f32, {}, reinterpret_cast<std::byte*>(&output), 1), Error);
}

}  // namespace
}  // namespace mmkd
