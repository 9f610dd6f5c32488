#pragma once
#include <ATen/ATen.h>

#include <barrier>
#include <exception>
#include <functional>
#include <thread>
#include <vector>

#include "mmkd/base/error.h"
#include "mmkd/dist/world.h"

namespace mmkd::testing {

/// The ranks of a world as threads of this process: all_gather through shared slots, nothing else.
class ThreadWorld final : public World {
 public:
  struct Meeting {
    explicit Meeting(int size) : slots(static_cast<std::size_t>(size)), barrier(size) {}
    std::vector<at::Tensor> slots;
    std::barrier<> barrier;
  };

  ThreadWorld(int rank, Meeting& meeting) : rank_(rank), meeting_(meeting) {}
  int rank() const override { return rank_; }
  int size() const override { return static_cast<int>(meeting_.slots.size()); }
  int local_rank() const override { return rank(); }
  int local_size() const override { return size(); }
  at::Device device() const override { return at::kCPU; }
  const MpiSession& mpi() const override { throw Error("a world of threads has no MPI"); }
  const c10::intrusive_ptr<c10d::ProcessGroup>& group() const override {
    throw Error("a world of threads has no group");
  }
  void all_reduce_sum(at::Tensor&) const override { throw Error("a world of threads only gathers"); }
  void broadcast(at::Tensor&, int) const override { throw Error("a world of threads only gathers"); }
  void barrier() const override { meeting_.barrier.arrive_and_wait(); }
  at::Tensor all_gather(const at::Tensor& tensor) const override {
    meeting_.slots[static_cast<std::size_t>(rank_)] = tensor;
    meeting_.barrier.arrive_and_wait();
    auto all = at::cat(meeting_.slots);
    meeting_.barrier.arrive_and_wait();
    return all;
  }

 private:
  int rank_;
  Meeting& meeting_;
};

/// Runs `body` on every rank of a world of threads; the first rank's exception is thrown again.
inline void run_ranks(int size, const std::function<void(const World&)>& body) {
  ThreadWorld::Meeting meeting(size);
  std::vector<std::exception_ptr> failures(static_cast<std::size_t>(size));
  {
    std::vector<std::jthread> threads;
    for (int rank = 0; rank < size; ++rank) {
      threads.emplace_back([&, rank] {
        try {
          body(ThreadWorld(rank, meeting));
        } catch (...) {
          failures[static_cast<std::size_t>(rank)] = std::current_exception();
        }
        meeting.barrier.arrive_and_drop();
      });
    }
  }
  for (const auto& failure : failures) {
    if (failure) std::rethrow_exception(failure);
  }
}

}  // namespace mmkd::testing
