#include "rendezvous.h"

#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include "mmkd/comm/agree.h"
#include "mmkd/comm/network.h"

namespace mmkd {

c10::intrusive_ptr<c10d::Store> make_tcp_store(const MpiSession& mpi, const std::string& network_interface) {
  const bool one_host = !mpi.any(mpi.local_size() != mpi.size());
  c10d::TCPStoreOptions options;
  options.numWorkers = static_cast<std::size_t>(mpi.size());
  options.waitWorkers = false;
  c10::intrusive_ptr<c10d::Store> server;
  std::string host = from_rank_zero(mpi, [&] { return listen_address(one_host, network_interface); });
  const std::string port = from_rank_zero(mpi, [&] {
    options.isServer = true;
    options.port = 0;
    options.masterListenFd = listen_on(host, options.port);  // the store takes it over
    server = c10::make_intrusive<c10d::TCPStore>(host, options);
    return std::to_string(options.port);
  });
  if (mpi.rank() == 0) return server;
  options.port = static_cast<std::uint16_t>(std::stoi(port));
  return c10::make_intrusive<c10d::TCPStore>(host, options);
}

}  // namespace mmkd
