#include "shared_memory_transport.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "mmkd/base/error.h"
#include "mmkd/comm/shared_segment.h"
#include "shared_barrier.h"

namespace mmkd {

namespace {

constexpr std::size_t kCacheLine = 64;

std::size_t round_up(std::size_t value, std::size_t unit) { return (value + unit - 1) / unit * unit; }

void copy_bytes(std::byte* to, const std::byte* from, std::size_t bytes) {
  if (bytes > 0 && to != from) std::memcpy(to, from, bytes);
}

// The segment: the barrier, what each rank is about to do, and each rank's slot; the latter two twice.
//
// A collective works through its data in turns: fill the own slot, meet, read the others' slots. Turns alternate
// between the two sets. A rank fills a set again two turns later, after a meeting that every rank entered only when it
// had read that set, so one meeting per turn is enough.
class SharedMemoryTransport final : public Transport {
 public:
  SharedMemoryTransport(int rank, int size, std::size_t slot_bytes, std::unique_ptr<SharedSegment> segment)
      : rank_(rank), size_(size), slot_bytes_(slot_bytes), segment_(std::move(segment)) {}

  static std::size_t segment_bytes(int size, std::size_t slot_bytes) {
    return slots_offset(size) + 2 * static_cast<std::size_t>(size) * slot_bytes;
  }

  std::string_view name() const override { return "shared memory"; }

  void all_reduce(const Call& call, std::byte* data, std::size_t count, ElementType type,
                  Reduction reduction) override {
    const std::size_t width = element_size(type);
    in_turns(count, slot_bytes_ / width, [&](std::size_t begin, std::size_t length) {
      all_reduce_turn(call, data + begin * width, length, type, reduction);
    });
  }

  void reduce_scatter(const Call& call, const std::byte* input, std::byte* output, std::size_t count, ElementType type,
                      Reduction reduction) override {
    const std::size_t width = element_size(type);
    const std::size_t piece_bytes = slot_bytes_ / ranks() / kCacheLine * kCacheLine;
    in_turns(count, piece_bytes / width, [&](std::size_t begin, std::size_t length) {
      const auto row = [&](int peer) { return input + (index(peer) * count + begin) * width; };
      start_turn(call);
      for_each_peer([&](int peer) { copy_bytes(slot(rank_) + index(peer) * piece_bytes, row(peer), length * width); });
      meet(call);
      std::vector<const std::byte*> pieces(ranks(), row(rank_));
      for_each_peer([&](int peer) { pieces[index(peer)] = slot(peer) + index(rank_) * piece_bytes; });
      reduce_in_order(reduction, type, pieces, output + begin * width, length);
    });
  }

  void all_gather(const Call& call, const std::byte* input, std::byte* output, std::size_t bytes) override {
    in_turns(bytes, slot_bytes_, [&](std::size_t begin, std::size_t length) {
      start_turn(call);
      copy_bytes(slot(rank_), input + begin, length);
      meet(call);
      for_each_peer([&](int peer) { copy_bytes(output + index(peer) * bytes + begin, slot(peer), length); });
      copy_bytes(output + index(rank_) * bytes + begin, input + begin, length);
    });
  }

  void broadcast(const Call& call, std::byte* data, std::size_t bytes, int root) override {
    in_turns(bytes, slot_bytes_, [&](std::size_t begin, std::size_t length) {
      start_turn(call);
      if (rank_ == root) copy_bytes(slot(root), data + begin, length);
      meet(call);
      if (rank_ != root) copy_bytes(data + begin, slot(root), length);
    });
  }

  void barrier(const Call& call) override {
    start_turn(call);
    meet(call);
  }

  void abandon(std::string_view why) noexcept override { shared_barrier().fail(rank_, why); }

 private:
  static std::size_t index(int rank) { return static_cast<std::size_t>(rank); }
  std::size_t ranks() const { return index(size_); }

  static std::size_t operations_offset() { return round_up(sizeof(SharedBarrier), kCacheLine); }
  static std::size_t slots_offset(int size) {
    return round_up(operations_offset() + 2 * index(size) * kCacheLine, 4096);
  }
  SharedBarrier& shared_barrier() const { return *reinterpret_cast<SharedBarrier*>(segment_->data()); }
  // In the set of this turn.
  std::byte* announcement(int peer) const {
    return segment_->data() + operations_offset() + (set_ * ranks() + index(peer)) * kCacheLine;
  }
  std::byte* slot(int peer) const {
    return segment_->data() + slots_offset(size_) + (set_ * ranks() + index(peer)) * slot_bytes_;
  }

  // At least one turn, so that ranks meet and compare even over nothing.
  template <class Turn>
  static void in_turns(std::size_t count, std::size_t per_turn, Turn&& turn) {
    std::size_t begin = 0;
    do {
      turn(begin, std::min(per_turn, count - begin));
      begin += per_turn;
    } while (begin < count);
  }

  template <class Body>
  void for_each_peer(Body&& body) const {
    for (int peer = 0; peer < size_; ++peer)
      if (peer != rank_) body(peer);
  }

  void start_turn(const Call& call) {
    set_ ^= 1U;
    std::memcpy(announcement(rank_), &call.operation, sizeof(Operation));
  }

  void wait_for_all(const Call& call) { shared_barrier().arrive_and_wait(rank_, size_, call.patience); }

  void meet(const Call& call) {
    wait_for_all(call);
    for_each_peer([&](int peer) {
      Operation theirs;
      std::memcpy(&theirs, announcement(peer), sizeof theirs);
      require_same(call.operation, theirs, peer);
    });
  }

  // Each rank reduces one slice. Its own part of that is read where it lies, so its slot has room there for the result.
  void all_reduce_turn(const Call& call, std::byte* data, std::size_t count, ElementType type, Reduction reduction) {
    const std::size_t width = element_size(type);
    const auto begin_of = [&](int peer) {  // bytes; whole cache lines, so that ranks do not share one
      return std::min(round_up(count * index(peer) / ranks() * width, kCacheLine), count * width);
    };
    const auto bytes_of = [&](int peer) {
      return (peer + 1 == size_ ? count * width : begin_of(peer + 1)) - begin_of(peer);
    };
    start_turn(call);
    for_each_peer([&](int peer) { copy_bytes(slot(rank_) + begin_of(peer), data + begin_of(peer), bytes_of(peer)); });
    meet(call);
    const std::size_t begin = begin_of(rank_), bytes = bytes_of(rank_);
    std::vector<const std::byte*> pieces(ranks(), data + begin);
    for_each_peer([&](int peer) { pieces[index(peer)] = slot(peer) + begin; });
    reduce_in_order(reduction, type, pieces, data + begin, bytes / width);
    copy_bytes(slot(rank_) + begin, data + begin, bytes);
    wait_for_all(call);
    for_each_peer([&](int peer) { copy_bytes(data + begin_of(peer), slot(peer) + begin_of(peer), bytes_of(peer)); });
  }

  int rank_, size_;
  std::size_t slot_bytes_;
  std::unique_ptr<SharedSegment> segment_;
  std::size_t set_ = 0;
};

}  // namespace

std::unique_ptr<Transport> make_shared_memory_transport(const MpiSession& session, std::size_t slot_bytes,
                                                        std::string& why_not) {
  if (session.size() > SharedBarrier::kMaxRanks) {
    why_not = fmt::format("more than {} ranks on one host", SharedBarrier::kMaxRanks);
    return nullptr;
  }
  // A reduce-scatter puts a piece for every rank into a slot.
  slot_bytes = round_up(std::max(slot_bytes, static_cast<std::size_t>(session.size()) * kCacheLine), 4096);
  const std::size_t bytes = SharedMemoryTransport::segment_bytes(session.size(), slot_bytes);
  auto segment = SharedSegment::create(session, bytes, bytes, why_not);
  if (!segment) return nullptr;
  return std::make_unique<SharedMemoryTransport>(session.rank(), session.size(), slot_bytes, std::move(segment));
}

}  // namespace mmkd
