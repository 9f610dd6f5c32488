#pragma once
#include <memory>

#include "mmkd/comm/mpi_session.h"
#include "transport.h"

namespace mmkd {

/// Collective. Messages between all pairs of ranks, on a duplicate of the session's communicator: works across hosts.
/// A reduction sends each rank its slice of everyone's data, sums it there in rank order and sends the sums to all:
/// as many bytes as a ring would move, in a fixed order.
std::unique_ptr<Transport> make_mpi_transport(const MpiSession& session);

}  // namespace mmkd
