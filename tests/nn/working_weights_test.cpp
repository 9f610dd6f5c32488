#include "mmkd/nn/working_weights.h"

#include <gtest/gtest.h>

#include "mmkd/base/error.h"

namespace mmkd::nn {
namespace {

TEST(WorkingWeights, AreMadeOnceAndAnewAfterAChange) {
  const at::Tensor weight = at::randn({8, 4}).requires_grad_(true), other = at::randn({8, 4});
  const WorkingWeights kept({weight, at::randn({3})});
  const at::Tensor first = working_weight(weight, at::kBFloat16);
  EXPECT_TRUE(at::equal(first, weight.detach().to(at::kBFloat16)));
  EXPECT_FALSE(first.requires_grad());
  EXPECT_TRUE(working_weight(weight, at::kBFloat16).is_same(first));
  EXPECT_TRUE(kept.copy_of(weight).is_same(first));
  {
    const at::NoGradGuard no_grad;
    weight.mul_(2);
  }
  EXPECT_FALSE(kept.copy_of(weight).defined()) << "of older values";
  const at::Tensor second = working_weight(weight, at::kBFloat16);
  EXPECT_TRUE(at::equal(second, weight.detach().to(at::kBFloat16)));
  EXPECT_FALSE(at::equal(second, first)) << "what a graph holds stays as it is";
}

TEST(WorkingWeights, OfOthersAndInOtherTypesAreConverted) {
  const at::Tensor weight = at::randn({8, 4}), other = at::randn({8, 4}), cube = at::randn({2, 2, 2});
  {
    const WorkingWeights kept({weight, cube});
    EXPECT_TRUE(working_weight(weight, at::kFloat).is_same(weight));
    EXPECT_FALSE(kept.copy_of(weight).defined()) << "not needed so far";
    for (const auto& tensor : {other, cube}) {
      EXPECT_TRUE(at::equal(working_weight(tensor, at::kBFloat16), tensor.to(at::kBFloat16)));
      EXPECT_FALSE(kept.copy_of(tensor).defined());
    }
    EXPECT_THROW(WorkingWeights({weight}), Error);
  }
  EXPECT_FALSE(working_weight(weight, at::kBFloat16).is_same(working_weight(weight, at::kBFloat16)));
}

}  // namespace
}  // namespace mmkd::nn
