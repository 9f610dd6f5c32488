// The CUDA plug-in loads as a whole and tells who it is, on machines without a GPU too.
#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <torch/version.h>

#include <string>
#include <torch/csrc/distributed/c10d/HashStore.hpp>

#include "src/cuda/plugin_abi.h"

namespace mmkd {
namespace {

const MmkdCudaPlugin* load() {
  void* library = dlopen(MMKD_CUDA_PLUGIN, RTLD_NOW | RTLD_GLOBAL);
  if (library == nullptr) {
    ADD_FAILURE() << dlerror();
    return nullptr;
  }
  const auto function = reinterpret_cast<MmkdCudaPluginFunction*>(dlsym(library, kMmkdCudaSymbol));
  return function == nullptr ? nullptr : function();
}

TEST(CudaPlugin, IsOfThisBuild) {
  const auto* plugin = load();
  ASSERT_NE(plugin, nullptr);
  EXPECT_EQ(plugin->abi_version, kMmkdCudaAbi);
  EXPECT_STREQ(plugin->torch_version, TORCH_VERSION);
}

TEST(CudaPlugin, ReportsWhyNcclCannotStart) {
  const auto* plugin = load();
  ASSERT_NE(plugin, nullptr);
  if (plugin->device_count() > 0) GTEST_SKIP() << "this machine has a GPU";
  const auto store = c10::make_intrusive<c10d::HashStore>();
  const MmkdNcclRequest request{store.get(), 0, 1, 0, 0};
  char error[256] = "";
  EXPECT_EQ(plugin->make_nccl_backend(&request, error, sizeof error), nullptr);
  EXPECT_FALSE(std::string(error).empty());
}

/// Dropout looks for it by name and type.
TEST(CudaPlugin, BringsTheOperatorOfDropout) {
  ASSERT_NE(load(), nullptr);
  using Operator = at::Tensor(const at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&, const at::Tensor&,
                              std::int64_t, std::int64_t, std::int64_t, double);
  const auto schema = c10::Dispatcher::singleton().findSchema({"mmkd::keyed_dropout", ""});
  ASSERT_TRUE(schema);
  EXPECT_NO_THROW(schema->typed<Operator>());
  EXPECT_TRUE(schema->hasKernelForDispatchKey(c10::DispatchKey::CUDA));
}

TEST(CudaPlugin, CompilesItsKernels) {
  const auto* plugin = load();
  ASSERT_NE(plugin, nullptr);
  constexpr std::int32_t kOfTheFuture = 999;
  for (const std::int32_t capability : {80, 86, 89, 90, 100, 120, kOfTheFuture}) {
    char error[4096] = "";
    EXPECT_TRUE(plugin->kernels_compile(capability, error, sizeof error)) << capability << ": " << error;
  }
  char error[4096] = "";
  EXPECT_FALSE(plugin->kernels_compile(1, error, sizeof error));
  EXPECT_NE(std::string(error).find("sm_1"), std::string::npos) << error;
}

TEST(CudaPlugin, ReportsWhyThereIsNoGraph) {
  const auto* plugin = load();
  ASSERT_NE(plugin, nullptr);
  if (plugin->device_count() > 0) GTEST_SKIP() << "this machine has a GPU";
  char error[4096] = "";
  void* graph = plugin->make_graph(error, sizeof error);
  if (graph == nullptr) {
    EXPECT_STRNE(error, "");
    return;
  }
  EXPECT_FALSE(plugin->begin_graph(graph, error, sizeof error));
  EXPECT_STRNE(error, "");
  plugin->delete_graph(graph);
}

}  // namespace
}  // namespace mmkd
