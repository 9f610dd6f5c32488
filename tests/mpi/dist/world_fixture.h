#pragma once
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <memory>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>

#include "mmkd/dist/world.h"
#include "tests/mpi/ranks.h"

namespace mmkd::test {

/// A fresh world per test, so that a test that spoils its channel spoils no other.
class WorldTest : public testing::Test {
 protected:
  static void SetUpTestSuite() { at::set_num_threads(1); }
  int rank() const { return session().rank(); }
  int size() const { return session().size(); }
  c10d::ProcessGroup& group() const { return *world_->group(); }

  std::unique_ptr<World> world_ = make_world(session(), at::kCPU);
};

inline bool same_bits(const at::Tensor& a, const at::Tensor& b) {
  return a.scalar_type() == b.scalar_type() && a.sizes() == b.sizes() &&
         at::equal(a.reshape({-1}).contiguous().view(at::kByte), b.reshape({-1}).contiguous().view(at::kByte));
}

}  // namespace mmkd::test
