#include "mmkd/pipeline/cpu_memory.h"

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <list>
#include <map>
#include <mutex>
#include <new>
#include <string_view>
#include <unordered_map>

namespace mmkd {
namespace {

constexpr std::size_t kSmallest = std::size_t{64} << 10;  // below, the C library is fast
constexpr std::size_t kPage = 4096;                       // divides every block's size
constexpr std::size_t kHugePage = std::size_t{2} << 20;
constexpr std::size_t kAlways = std::size_t{32} << 20;  // bytes that may be kept whatever the peak

std::size_t rounded_up(std::size_t size, std::size_t unit) { return (size + unit - 1) / unit * unit; }

/// In eighths of a power of two: sizes that differ by little, as those of packed texts do, share blocks.
std::size_t block_size(std::size_t bytes) {
  std::size_t step = kSmallest / 8;
  while (16 * step < bytes) step *= 2;
  return rounded_up(bytes, step);
}

/// Each block is a mapping of its own, so that what is given back leaves the process: in the C library's heap, blocks
/// of many sizes leave holes.
void* take_from_system(std::size_t size) {
  const std::size_t alignment = size >= kHugePage ? kHugePage : kPage;
  void* mapping = mmap(nullptr, size + alignment, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping == MAP_FAILED) throw std::bad_alloc();
  auto* const begin = static_cast<std::byte*>(mapping);
  const std::size_t before =
      rounded_up(reinterpret_cast<std::uintptr_t>(begin), alignment) - reinterpret_cast<std::uintptr_t>(begin);
  if (before > 0) munmap(begin, before);
  munmap(begin + before + size, alignment - before);
  std::byte* const block = begin + before;
  if (size >= kHugePage) madvise(block, size, MADV_HUGEPAGE);  // a wish: what the system makes of it is its business
  return block;
}

class BlockCache {
 public:
  void* take(std::size_t bytes) {
    const std::size_t size = block_size(bytes);
    const std::scoped_lock lock(mutex_);
    // A block of up to twice the size: its pages are there, and the batch after this one may need it whole.
    const auto found = by_size_.lower_bound(size);
    if (found != by_size_.end() && found->first <= size + size / 4) {
      void* memory = *found->second;
      free_bytes_ -= found->first;
      begin_use(memory, found->first);
      by_age_.erase(found->second);
      by_size_.erase(found);
      return memory;
    }
    void* memory = take_from_system(size);
    begin_use(memory, size);
    return memory;
  }

  /// False: not a block of the cache.
  bool give_back(void* memory) {
    const std::scoped_lock lock(mutex_);
    const auto used = used_.find(memory);
    if (used == used_.end()) return false;
    const std::size_t size = used->second;
    used_.erase(used);
    used_bytes_ -= size;
    free_bytes_ += size;
    by_size_.emplace(size, by_age_.insert(by_age_.end(), memory));
    while (free_bytes_ > kAlways && used_bytes_ + free_bytes_ > peak_ + peak_ / 16) release_oldest();
    return true;
  }

 private:
  using Ages = std::list<void*>;  // of free blocks, the one that was given back first in front

  void begin_use(void* memory, std::size_t size) {
    used_.emplace(memory, size);
    used_bytes_ += size;
    peak_ = std::max(peak_, used_bytes_);
  }

  void release_oldest() {
    const auto oldest = by_age_.begin();
    const auto entry =
        std::find_if(by_size_.begin(), by_size_.end(), [&](const auto& item) { return item.second == oldest; });
    munmap(*oldest, entry->first);
    free_bytes_ -= entry->first;
    by_size_.erase(entry);
    by_age_.erase(oldest);
  }

  std::mutex mutex_;
  Ages by_age_;
  std::multimap<std::size_t, Ages::iterator> by_size_;  // free blocks
  std::unordered_map<void*, std::size_t> used_;
  std::size_t used_bytes_ = 0, free_bytes_ = 0, peak_ = 0;
};

BlockCache& blocks() {
  static auto* cache = new BlockCache;  // for ever: tensors may outlive every static object
  return *cache;
}

void free_small(void* memory) { std::free(memory); }
void free_large(void* memory) { blocks().give_back(memory); }
void free_any(void* memory) {
  if (!blocks().give_back(memory)) std::free(memory);
}

class KeepingAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(std::size_t bytes) override {
    const c10::Device cpu(c10::DeviceType::CPU);
    if (bytes == 0) return {nullptr, nullptr, &free_small, cpu};
    if (bytes >= kSmallest) {
      void* memory = blocks().take(bytes);
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

void keep_tensor_memory() {
  const char* wish = std::getenv("MMKD_MEMORY_CACHE");
  if (wish != nullptr && std::string_view(wish) == "off") return;
  static KeepingAllocator allocator;
  constexpr std::uint8_t kPriority = 100;  // above torch's own, which registers at load
  c10::SetCPUAllocator(&allocator, kPriority);
}

}  // namespace mmkd
