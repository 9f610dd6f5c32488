#include "mmkd/train/precision.h"

#include <ATen/autocast_mode.h>
#include <gtest/gtest.h>
#include <torch/autograd.h>

namespace mmkd {
namespace {

at::ScalarType type_of_product() { return at::mm(at::ones({2, 2}), at::ones({2, 2})).scalar_type(); }

TEST(AutocastGuard, RunsMatrixProductsInBfloat16WhileItLives) {
  EXPECT_EQ(type_of_product(), at::kFloat);
  {
    const AutocastGuard guard(at::kCPU, Precision::bf16);
    EXPECT_EQ(type_of_product(), at::kBFloat16);
  }
  EXPECT_EQ(type_of_product(), at::kFloat);
}

TEST(AutocastGuard, DoesNothingInFloat32) {
  const AutocastGuard guard(at::kCPU, Precision::fp32);
  EXPECT_EQ(type_of_product(), at::kFloat);
}

TEST(AutocastGuard, PutsBackWhatAnOuterGuardHadSet) {
  const AutocastGuard outer(at::kCPU, Precision::bf16);
  {
    const AutocastGuard inner(at::kCPU, Precision::fp32);
    EXPECT_EQ(type_of_product(), at::kFloat);
  }
  EXPECT_EQ(type_of_product(), at::kBFloat16);
}

TEST(AutocastGuard, PutsBackAfterAnException) {
  try {
    const AutocastGuard guard(at::kCPU, Precision::bf16);
    throw 1;
  } catch (int) {
  }
  EXPECT_EQ(type_of_product(), at::kFloat);
}

TEST(AutocastGuard, ForgetsCastsOfParametersBetweenRegions) {
  const auto weight = at::ones({2, 2}).requires_grad_(true);
  const auto product = [&] {
    const AutocastGuard guard(at::kCPU, Precision::bf16);
    return at::mm(at::ones({2, 2}), weight).sum().item<double>();
  };
  EXPECT_EQ(product(), 8.0);
  {
    const at::NoGradGuard no_grad;
    weight.mul_(2.0);
  }
  EXPECT_EQ(product(), 16.0);  // a cast kept from the first region would still give 8
}

TEST(AutocastGuard, LeavesGradientsOfParametersInFloat32) {
  const auto weight = at::ones({2, 2}).requires_grad_(true);
  at::Tensor loss;
  {
    const AutocastGuard guard(at::kCPU, Precision::bf16);
    loss = at::mm(at::ones({2, 2}), weight).to(at::kFloat).sum();
  }
  loss.backward();
  EXPECT_EQ(weight.grad().scalar_type(), at::kFloat);
  EXPECT_TRUE(at::equal(weight.grad(), at::full({2, 2}, 2.0F)));
}

}  // namespace
}  // namespace mmkd
