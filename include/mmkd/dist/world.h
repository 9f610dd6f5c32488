#pragma once
#include <ATen/ATen.h>
#include <c10/util/intrusive_ptr.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "mmkd/comm/mpi_session.h"

namespace c10d {
class ProcessGroup;
}

namespace mmkd {

/// Which rows of the global batch lie on which rank: contiguous shares, sizes differing by at most one, the first ranks
/// having more (data/sampler.h).
struct BatchShares {
  std::int64_t global_count = 0;
  std::int64_t world = 1;
  std::int64_t rows_of(std::int64_t rank) const;   ///< may be 0
  std::int64_t begin_of(std::int64_t rank) const;  ///< index in the global batch
  std::int64_t max_rows() const { return rows_of(0); }
};

/// The ranks of one job with their tensor collectives: made after the MpiSession that it uses, gone before it. A world
/// destroyed by a flying exception abandons what is under way instead of waiting for peers.
class World {
 public:
  virtual ~World() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual int local_rank() const = 0;
  virtual int local_size() const = 0;
  virtual at::Device device() const = 0;
  virtual const MpiSession& mpi() const = 0;
  /// CPU tensors go over MPI, CUDA tensors (of a CUDA world) over NCCL; usable with one rank too.
  virtual const c10::intrusive_ptr<c10d::ProcessGroup>& group() const = 0;

  // Collective: every rank must call, in the same order. Tensors on device(), contiguous. No gradients flow through.
  // They return when the result may be used (CUDA: by the current stream), and throw if the collective failed.
  virtual void all_reduce_sum(at::Tensor& tensor) const = 0;
  virtual void broadcast(at::Tensor& tensor, int root) const = 0;
  virtual void barrier() const = 0;
  /// [n, …] of every rank, n equal on all ranks -> [world * n, …] in rank order.
  virtual at::Tensor all_gather(const at::Tensor& tensor) const = 0;
};

/// Collective. World over MPI for CPU tensors (reductions in rank order: equal values give equal bits whatever the
/// layout) and, with a CUDA device, NCCL from the plug-in (cuda_plugin.h), one GPU per local rank. A session of size 1
/// needs no MPI at all. CPU worlds open no port; for NCCL rank 0 listens on the loopback interface if all ranks run on
/// one host, else on `network_interface` ("eth0"; empty: the first that is up and not virtual).
/// Throws Error on every rank if `device` is CUDA and a rank has no GPU, or a host has more ranks than GPUs.
std::unique_ptr<World> make_world(const MpiSession& mpi, at::DeviceType device,
                                  const std::string& network_interface = "");

/// Collective. Differentiable all-gather of the rows of a global batch: local [max(rows, 1), …] -> [global_count, …] in
/// batch order, filler rows left out. Meant for losses that every rank computes in full on the gathered rows: backward
/// gives this rank's slice of the gradient times world.size(), which the gradient mean over ranks turns into the exact
/// gradient; a filler row's gradient is 0. Backward communicates nothing. Throws Error if `local` has another number of
/// rows than its share.
at::Tensor gather_rows(const World& world, const at::Tensor& local, const BatchShares& shares);

/// Collective. Throws Error on every rank unless the parameters of all ranks have the types and shapes of rank 0's.
void require_same_shapes(const World& world, const std::vector<at::Tensor>& parameters);

/// Averages gradients over ranks with c10d::Reducer, in buckets, overlapped with backward. With one rank it does
/// nothing. Must be gone before its World.
///
/// A step: begin_step(), forward, begin_last_backward(), backward() – after which every .grad() is the mean over ranks.
/// With micro-batches: forward and backward() of all but the last, whose gradients add up locally, then
/// begin_last_backward() and the last backward(), which reduces the sums.
///
/// Gradients are views into the buckets: the optimizer must zero them in place (`grad.zero_()`), not replace or
/// undefine them (which works, but costs a copy of each gradient in every step). Every parameter must take part in
/// every last backward on every rank; if one does not, the next begin_last_backward() throws.
class GradSync {
 public:
  /// Collective: checks that all ranks have parameters of the same shapes, then broadcasts them from rank 0; undefined
  /// gradients become zeros. Buffers are left alone. Parameters: those that require gradients, without duplicates, in
  /// the same order on every rank; Error, on every rank, otherwise.
  /// Gradients of `averaged_elsewhere` are made zeros like others, and left alone afterwards. Float32 gradients travel
  /// as `exchange`, float32 or bfloat16; every rank gets the same.
  GradSync(const World& world, std::vector<at::Tensor> parameters,
           const std::vector<at::Tensor>& averaged_elsewhere = {}, at::ScalarType exchange = at::kFloat);
  ~GradSync();
  GradSync(GradSync&&) noexcept;
  /// Collective. Before the first forward pass of a step.
  void begin_step();
  /// Before the backward pass whose end completes the gradients; leave it out for earlier micro-batches.
  void begin_last_backward();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace mmkd
