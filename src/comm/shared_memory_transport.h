#pragma once
#include <cstddef>
#include <memory>
#include <string>

#include "mmkd/comm/mpi_session.h"
#include "transport.h"

namespace mmkd {

/// Collective over a session whose ranks share one host. Null, with the reason in `why_not`, where there is no shared
/// memory to be had. Data goes through one slot of `slot_bytes` per rank (two, used in turn): slots stay in the caches,
/// so a reduction moves little more than the data itself.
std::unique_ptr<Transport> make_shared_memory_transport(const MpiSession& session, std::size_t slot_bytes,
                                                        std::string& why_not);

}  // namespace mmkd
