#pragma once
#include <string>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include "mmkd/comm/mpi_session.h"

namespace mmkd {

/// Collective. Key-value store for NCCL's start: a TCPStore whose server, on rank 0, listens on
/// listen_address() alone, at a port that the system chooses. Throws Error on every rank if rank 0 cannot listen.
c10::intrusive_ptr<c10d::Store> make_tcp_store(const MpiSession& mpi, const std::string& network_interface);

}  // namespace mmkd
