#pragma once
#include <cstddef>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <unordered_map>
#include <utility>

namespace mmkd {

/// Large blocks of memory from one range of addresses, from whose free parts they are cut; free neighbours become one
/// part again. Memory that blocks of some sizes leave so serves blocks of any others, without going back to the system,
/// in huge pages where the system has them. Pages that are kept beyond what was once in use at the same time are at
/// most an eighth of that, or 32 MB. For several threads.
class MemoryArena {
 public:
  static constexpr std::size_t kPage = 4096;                      ///< divides every block's address and size
  static constexpr std::size_t kReserved = std::size_t{1} << 42;  ///< of addresses; they cost nothing

  /// Null where the system does not reserve that many addresses (a limit on them).
  static std::unique_ptr<MemoryArena> make(std::size_t reserved = kReserved);
  MemoryArena(const MemoryArena&) = delete;
  MemoryArena& operator=(const MemoryArena&) = delete;
  ~MemoryArena();

  /// A block for `bytes` > 0. Throws std::bad_alloc.
  void* take(std::size_t bytes);
  /// False: not a block of the arena; nothing happens.
  bool give_back(void* memory);

  struct Usage {
    std::size_t used = 0;       ///< bytes in blocks
    std::size_t peak = 0;       ///< the most there ever were
    std::size_t kept = 0;       ///< bytes in free parts that have pages
    std::size_t parts = 0;      ///< how many free parts there are
    std::size_t addresses = 0;  ///< bytes of addresses that have ever been in use
  };
  Usage usage() const;

 private:
  /// Ranges of addresses, none of which touches another, by their begin.
  using Ranges = std::map<std::byte*, std::byte*>;

  MemoryArena(std::byte* reserved, std::size_t size);
  void add_free(std::byte* begin, std::byte* end);
  void remove_free(Ranges::iterator at);
  std::byte* grow(std::size_t size);
  std::size_t keep_pages(std::byte* begin, std::byte* end);
  void release_pages(std::size_t bytes);

  std::byte* const reserved_;
  std::byte* const limit_;
  std::byte* end_;  // of what is usable
  mutable std::mutex mutex_;
  Ranges free_;
  std::set<std::pair<std::size_t, std::byte*>> by_size_;  // the same, size and begin
  Ranges absent_;                                         // within them: what has no pages
  std::unordered_map<void*, std::size_t> used_;
  std::size_t used_bytes_ = 0, peak_ = 0, kept_ = 0;
};

}  // namespace mmkd
