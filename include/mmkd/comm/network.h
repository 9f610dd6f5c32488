#pragma once
#include <cstdint>
#include <string>

// Where ranks reach one another by TCP.
namespace mmkd {

/// The IPv4 address to listen on: loopback if all ranks run on one host, else that of the first interface that is up
/// and leads to other hosts, or of the one named. Throws Error listing the interfaces.
std::string listen_address(bool one_host, const std::string& network_interface);

/// A listening socket on `host`; `port` in: the wanted one (0: any), out: the one that it has. Throws Error.
int listen_on(const std::string& host, std::uint16_t& port);

}  // namespace mmkd
