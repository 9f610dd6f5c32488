#include "mmkd/pipeline/cpu_memory.h"

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string_view>

#include "mmkd/base/memory_arena.h"

namespace mmkd {
namespace {

constexpr std::size_t kSmallest = std::size_t{64} << 10;  // below, the C library is fast

MemoryArena* arena = nullptr;  // for ever: tensors may outlive every static object

void free_small(void* memory) { std::free(memory); }
void free_large(void* memory) { arena->give_back(memory); }
void free_any(void* memory) {
  if (!arena->give_back(memory)) std::free(memory);
}

class KeepingAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(std::size_t bytes) override {
    const c10::Device cpu(c10::DeviceType::CPU);
    if (bytes == 0) return {nullptr, nullptr, &free_small, cpu};
    if (bytes >= kSmallest) {
      void* memory = arena->take(bytes);
      return {memory, memory, &free_large, cpu};
    }
    constexpr std::size_t kAlignment = 64;
    void* memory = std::aligned_alloc(kAlignment, (bytes + kAlignment - 1) / kAlignment * kAlignment);
    if (memory == nullptr) throw std::bad_alloc();
    return {memory, memory, &free_small, cpu};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &free_any; }
  void copy_data(void* to, const void* from, std::size_t count) const override { std::memcpy(to, from, count); }
};

}  // namespace

void keep_few_descriptors() { setenv("LRU_CACHE_CAPACITY", "64", /*overwrite=*/0); }

void keep_tensor_memory() {
  const char* wish = std::getenv("MMKD_MEMORY_CACHE");
  if (wish != nullptr && std::string_view(wish) == "off") return;
  if (arena == nullptr) arena = MemoryArena::make().release();
  if (arena == nullptr) return;
  static KeepingAllocator allocator;
  constexpr std::uint8_t kPriority = 100;  // above torch's own, which registers at load
  c10::SetCPUAllocator(&allocator, kPriority);
}

}  // namespace mmkd
