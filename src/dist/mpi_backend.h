#pragma once
#include <ATen/ATen.h>

#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <vector>

#include "mmkd/comm/channel.h"

namespace mmkd {

/// c10d backend for CPU tensors over a Channel. One worker thread runs the collectives in the order they were
/// submitted, so all ranks must submit the same ones in the same order.
///
/// A failing collective sets the error of its work and future; the channel is unusable then, and all later collectives
/// fail at once. Tensors may have any strides (others than contiguous ones cost a copy) and are kept alive until the
/// collective is done. What the base class offers beyond the functions here throws its "does not support".
class MpiBackend final : public c10d::Backend {
 public:
  explicit MpiBackend(std::unique_ptr<Channel> channel);
  /// Runs what was submitted, unless abort() was called.
  ~MpiBackend() override;

  const std::string getBackendName() const override { return "mpi"; }
  c10::intrusive_ptr<Options> getBackendOptions() override { return options_; }
  void setTimeout(std::chrono::milliseconds timeout) override;
  /// Makes the collective in progress and all submitted ones fail.
  void abort() override { channel_->cancel(); }
  void setSequenceNumberForGroup() override {}
  std::uint64_t getSequenceNumberForGroup() override;

  using Work = c10::intrusive_ptr<c10d::Work>;
  using Tensors = std::vector<at::Tensor>;
  // Reductions: sum, average, product, min, max.
  Work allreduce(Tensors& tensors, const c10d::AllreduceOptions& options) override;
  Work allreduce_coalesced(Tensors& tensors, const c10d::AllreduceCoalescedOptions& options) override;
  Work broadcast(Tensors& tensors, const c10d::BroadcastOptions& options) override;
  Work allgather(std::vector<Tensors>& outputs, Tensors& inputs, const c10d::AllgatherOptions& options) override;
  Work _allgather_base(at::Tensor& output, at::Tensor& input, const c10d::AllgatherOptions& options) override;
  Work allgather_into_tensor_coalesced(Tensors& outputs, Tensors& inputs,
                                       const c10d::AllgatherOptions& options) override;
  Work reduce_scatter(Tensors& outputs, std::vector<Tensors>& inputs,
                      const c10d::ReduceScatterOptions& options) override;
  Work _reduce_scatter_base(at::Tensor& output, at::Tensor& input, const c10d::ReduceScatterOptions& options) override;
  Work reduce_scatter_tensor_coalesced(Tensors& outputs, Tensors& inputs,
                                       const c10d::ReduceScatterOptions& options) override;
  Work barrier(const c10d::BarrierOptions& options) override;

 private:
  class Job;
  Work submit(c10d::OpType type, Tensors results, std::function<void(Channel&)> collective);
  void run_jobs();

  std::unique_ptr<Channel> channel_;
  c10::intrusive_ptr<Options> options_;
  std::mutex mutex_;
  std::condition_variable submitted_;
  std::deque<c10::intrusive_ptr<Job>> queue_;
  std::uint64_t submissions_ = 0;
  bool closing_ = false;
  std::thread worker_;  // last: it uses everything above
};

}  // namespace mmkd
