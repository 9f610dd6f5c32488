#pragma once
#include <string>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include "mmkd/comm/mpi_session.h"

namespace mmkd {

/// Address on which rank 0 can be reached: 127.0.0.1 if all ranks run on one host, else the IPv4 address of
/// `network_interface`, or, if that is empty, of the first interface that is up, not loopback and not one of a
/// container bridge. Throws Error listing what there is.
std::string listen_address(bool one_host, const std::string& network_interface);

/// Collective. Key-value store for NCCL's start: a TCPStore whose server, on rank 0, listens on that address alone, at
/// a port that the system chooses. Throws Error on every rank if rank 0 cannot listen.
c10::intrusive_ptr<c10d::Store> make_tcp_store(const MpiSession& mpi, const std::string& network_interface);

}  // namespace mmkd
