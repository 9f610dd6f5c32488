#include "mmkd/dist/world.h"

#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <exception>
#include <torch/csrc/distributed/c10d/HashStore.hpp>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
#include <utility>

#include "cuda_backend.h"
#include "mmkd/base/error.h"
#include "mmkd/comm/agree.h"
#include "mmkd/comm/channel.h"
#include "mmkd/dist/cuda_plugin.h"
#include "mpi_backend.h"
#include "rendezvous.h"

namespace mmkd {

namespace {

class GroupWorld final : public World {
 public:
  GroupWorld(const MpiSession& mpi, at::Device device, c10::intrusive_ptr<c10d::ProcessGroup> group)
      : mpi_(mpi), device_(device), group_(std::move(group)), exceptions_at_start_(std::uncaught_exceptions()) {}

  ~GroupWorld() override {
    try {
      if (std::uncaught_exceptions() > exceptions_at_start_) {
        group_->abort();
      } else {
        group_->shutdown();
      }
    } catch (const std::exception&) {  // NOLINT(bugprone-empty-catch): the group is going either way
    }
  }

  int rank() const override { return mpi_.rank(); }
  int size() const override { return mpi_.size(); }
  int local_rank() const override { return mpi_.local_rank(); }
  int local_size() const override { return mpi_.local_size(); }
  at::Device device() const override { return device_; }
  const MpiSession& mpi() const override { return mpi_; }
  const c10::intrusive_ptr<c10d::ProcessGroup>& group() const override { return group_; }

  void all_reduce_sum(at::Tensor& tensor) const override {
    if (size() == 1) return;
    const at::NoGradGuard no_grad;
    std::vector<at::Tensor> tensors{tensor.detach()};
    group_->allreduce(tensors)->wait();
  }

  void broadcast(at::Tensor& tensor, int root) const override {
    if (root < 0 || root >= size()) throw Error("broadcast from rank {} in a world of {}", root, size());
    if (size() == 1) return;
    const at::NoGradGuard no_grad;
    std::vector<at::Tensor> tensors{tensor.detach()};
    c10d::BroadcastOptions options;
    options.rootRank = root;
    group_->broadcast(tensors, options)->wait();
  }

  void barrier() const override {
    if (size() == 1) return;
    c10d::BarrierOptions options;
    if (device_.is_cuda()) options.device = device_;
    group_->barrier(options)->wait();
  }

  at::Tensor all_gather(const at::Tensor& tensor) const override {
    if (tensor.dim() == 0) throw Error("all_gather joins tensors along their first dimension, found a scalar");
    if (size() == 1) return tensor.detach().clone();
    const at::NoGradGuard no_grad;
    auto input = tensor.detach().contiguous();
    auto shape = input.sizes().vec();
    shape[0] *= size();
    auto output = at::empty(shape, input.options());
    group_->_allgather_base(output, input)->wait();
    return output;
  }

 private:
  const MpiSession& mpi_;
  at::Device device_;
  c10::intrusive_ptr<c10d::ProcessGroup> group_;
  int exceptions_at_start_;
};

/// Collective. The GPU of this rank; the Error that explains why there is none is every rank's.
at::Device choose_gpu(const MpiSession& mpi) {
  on_all_ranks(mpi, [&] {
    if (!load_cuda_plugin())
      throw Error("device cuda: {} has no NVIDIA driver (libcuda.so.1 does not open); use device: cpu", mpi.host());
    const int gpus = cuda_device_count();
    if (gpus == 0) throw Error("device cuda: no GPU is visible on {}; use device: cpu", mpi.host());
    if (mpi.local_size() > gpus)
      throw Error("device cuda: {} ranks on {}, which has {} GPU{}; NCCL needs one each. Start at most {} there.",
                  mpi.local_size(), mpi.host(), gpus, gpus == 1 ? "" : "s", gpus);
  });
  const at::Device device(at::kCUDA, static_cast<c10::DeviceIndex>(mpi.local_rank()));
  c10::impl::VirtualGuardImpl(at::kCUDA).setDevice(device);
  return device;
}

void add_backend(c10d::ProcessGroup& group, at::DeviceType device, c10d::ProcessGroup::BackendType type,
                 const c10::intrusive_ptr<c10d::Backend>& backend) {
  group.setBackend(device, type, backend);
  group.setDefaultBackend(type);
}

}  // namespace

std::int64_t BatchShares::rows_of(std::int64_t rank) const {
  return global_count / world + (rank < global_count % world);
}

std::int64_t BatchShares::begin_of(std::int64_t rank) const {
  return rank * (global_count / world) + std::min(rank, global_count % world);
}

std::unique_ptr<World> make_world(const MpiSession& mpi, at::DeviceType device_type,
                                  const std::string& network_interface) {
  using Type = c10d::ProcessGroup::BackendType;
  if (device_type != at::kCPU && device_type != at::kCUDA)
    throw Error("a world runs on cpu or cuda, not on {}", c10::DeviceTypeName(device_type, true));
  const bool cuda = device_type == at::kCUDA;
  const at::Device device = cuda ? choose_gpu(mpi) : at::Device(at::kCPU);
  // Our CPU backend needs no store, so a CPU world opens no port.
  c10::intrusive_ptr<c10d::Store> store;
  if (cuda && mpi.size() > 1) {
    store = make_tcp_store(mpi, network_interface);
  } else {
    store = c10::make_intrusive<c10d::HashStore>();
  }
  auto group = c10::make_intrusive<c10d::ProcessGroup>(store, mpi.rank(), mpi.size());
  add_backend(*group, at::kCPU, Type::MPI, c10::make_intrusive<MpiBackend>(std::make_unique<Channel>(mpi)));
  if (cuda) {
    group->setBoundDeviceId(device);  // setBackend hands it on to the backend
    const auto nccl_store = c10::make_intrusive<c10d::PrefixStore>("nccl", store);
    add_backend(*group, at::kCUDA, Type::NCCL, make_nccl_backend(nccl_store, mpi.rank(), mpi.size(), device));
  }
  group->setGroupName("mmkd");
  return std::make_unique<GroupWorld>(mpi, device, std::move(group));
}

}  // namespace mmkd
