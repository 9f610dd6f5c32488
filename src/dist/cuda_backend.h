#pragma once
#include <c10/core/Device.h>

#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>

namespace mmkd {

/// Collective (with more than one rank it connects them). NCCL from the plug-in; throws Error without plug-in, or with
/// NCCL's own message.
c10::intrusive_ptr<c10d::Backend> make_nccl_backend(const c10::intrusive_ptr<c10d::Store>& store, int rank, int size,
                                                    at::Device device);

}  // namespace mmkd
