#include "mmkd/base/memory_arena.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <new>

namespace mmkd {
namespace {

constexpr std::size_t kHugePage = std::size_t{2} << 20;
constexpr std::size_t kAlways = std::size_t{32} << 20;  // bytes that may be kept whatever the peak

std::size_t rounded_up(std::size_t size, std::size_t unit) { return (size + unit - 1) / unit * unit; }

std::byte* aligned_up(std::byte* address) {
  const auto number = reinterpret_cast<std::uintptr_t>(address);
  return address + (rounded_up(number, kHugePage) - number);
}

std::size_t length(const std::byte* begin, const std::byte* end) { return static_cast<std::size_t>(end - begin); }

/// Puts a range between others, joined with those that it touches; none overlaps it. What it has become.
template <class Ranges>
typename Ranges::iterator join(Ranges& ranges, std::byte* begin, std::byte* end) {
  const auto after = ranges.find(end);
  if (after != ranges.end()) {
    end = after->second;
    ranges.erase(after);
  }
  const auto next = ranges.lower_bound(begin);
  if (next != ranges.begin()) {
    const auto before = std::prev(next);
    if (before->second == begin) {
      before->second = end;
      return before;
    }
  }
  return ranges.emplace(begin, end).first;
}

}  // namespace

std::unique_ptr<MemoryArena> MemoryArena::make(std::size_t reserved) {
  void* const mapping = mmap(nullptr, reserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapping == MAP_FAILED) return nullptr;
  madvise(mapping, reserved, MADV_HUGEPAGE);  // a wish: what the system makes of it is its business
  return std::unique_ptr<MemoryArena>(new MemoryArena(static_cast<std::byte*>(mapping), reserved));
}

MemoryArena::MemoryArena(std::byte* reserved, std::size_t size)
    : reserved_(reserved), limit_(reserved + size), end_(std::min(aligned_up(reserved), reserved + size)) {}

MemoryArena::~MemoryArena() { munmap(reserved_, static_cast<std::size_t>(limit_ - reserved_)); }

void* MemoryArena::take(std::size_t bytes) {
  const std::size_t size = rounded_up(bytes, kPage);
  const std::scoped_lock lock(mutex_);
  // The tightest part, of equal ones the first: the far end stays free as long as possible.
  const auto tightest = by_size_.lower_bound({size, nullptr});
  std::byte* const block = tightest == by_size_.end() ? grow(size) : tightest->second;
  const auto part = free_.find(block);
  std::byte* const end = part->second;
  remove_free(part);
  if (end > block + size) add_free(block + size, end);
  kept_ -= size - keep_pages(block, block + size);
  used_.emplace(block, size);
  used_bytes_ += size;
  peak_ = std::max(peak_, used_bytes_);
  return block;
}

bool MemoryArena::give_back(void* memory) {
  const std::scoped_lock lock(mutex_);
  const auto used = used_.find(memory);
  if (used == used_.end()) return false;
  auto* const block = static_cast<std::byte*>(memory);
  const std::size_t size = used->second;
  used_.erase(used);
  add_free(block, block + size);
  used_bytes_ -= size;
  kept_ += size;
  const std::size_t most = std::max(peak_ + peak_ / 8, used_bytes_ + kAlways);
  if (used_bytes_ + kept_ > most) release_pages(used_bytes_ + kept_ - most);
  return true;
}

MemoryArena::Usage MemoryArena::usage() const {
  const std::scoped_lock lock(mutex_);
  return {.used = used_bytes_,
          .peak = peak_,
          .kept = kept_,
          .parts = free_.size(),
          .addresses = static_cast<std::size_t>(end_ - reserved_)};
}

void MemoryArena::add_free(std::byte* begin, std::byte* end) {
  const auto after = free_.find(end);
  if (after != free_.end()) by_size_.erase({length(after->first, after->second), after->first});
  const auto next = free_.lower_bound(begin);
  if (next != free_.begin()) {
    const auto before = std::prev(next);
    if (before->second == begin) by_size_.erase({length(before->first, before->second), before->first});
  }
  const auto part = join(free_, begin, end);
  by_size_.emplace(length(part->first, part->second), part->first);
}

void MemoryArena::remove_free(Ranges::iterator at) {
  by_size_.erase({length(at->first, at->second), at->first});
  free_.erase(at);
}

/// Makes more addresses usable. The last free part, which then has at least `size`.
std::byte* MemoryArena::grow(std::size_t size) {
  std::size_t missing = size;
  if (!free_.empty()) {
    const auto last = std::prev(free_.end());
    if (last->second == end_) missing -= length(last->first, last->second);
  }
  const std::size_t more = rounded_up(missing, kHugePage);
  if (more > length(end_, limit_) || mprotect(end_, more, PROT_READ | PROT_WRITE) != 0) throw std::bad_alloc();
  add_free(end_, end_ + more);
  join(absent_, end_, end_ + more);
  end_ += more;
  return std::prev(free_.end())->first;
}

/// What lies there will have pages. How many bytes had none.
std::size_t MemoryArena::keep_pages(std::byte* begin, std::byte* end) {
  std::size_t bytes = 0;
  auto range = absent_.upper_bound(begin);
  if (range != absent_.begin() && std::prev(range)->second > begin) --range;
  while (range != absent_.end() && range->first < end) {
    const auto [first, last] = *range;
    range = absent_.erase(range);
    if (first < begin) absent_.emplace(first, begin);
    if (last > end) range = absent_.emplace(end, last).first;
    bytes += length(std::max(first, begin), std::min(last, end));
  }
  return bytes;
}

/// At least `bytes` of free parts, from the far end on, if they have so many. Not fewer than a huge page at a time.
void MemoryArena::release_pages(std::size_t bytes) {
  bytes = std::max(bytes, kHugePage);
  for (auto part = free_.rbegin(); part != free_.rend() && bytes > 0; ++part) {
    std::byte *begin = part->first, *const end = part->second;
    if (length(begin, end) > bytes) begin = end - rounded_up(bytes, kPage);
    const std::size_t had = length(begin, end) - keep_pages(begin, end);
    join(absent_, begin, end);
    if (had == 0) continue;
    madvise(begin, length(begin, end), MADV_DONTNEED);
    kept_ -= had;
    bytes -= std::min(bytes, had);
  }
}

}  // namespace mmkd
