// The CUDA plug-in loads as a whole and tells who it is, on machines without a GPU too.
#include <ATen/ATen.h>
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

}  // namespace
}  // namespace mmkd
